"""The tests; the folder names say what each kind may touch."""
