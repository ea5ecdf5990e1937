"""Two servers that must answer alike: one on SQLite, one on PostgreSQL, one of them asked by REST and one by MCP."""
