"""The store on PostgreSQL, through one asyncpg pool."""
