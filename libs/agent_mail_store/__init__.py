"""The store port on SQLite and on PostgreSQL: the same file names, methods and promises in both."""
