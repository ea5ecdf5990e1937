"""Rules alone, without I/O."""
