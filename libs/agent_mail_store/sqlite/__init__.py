"""The store on one SQLite file: many readers, one writer that shares its commits."""
