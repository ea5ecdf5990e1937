"""The cluster ports on Redis or Valkey, shared by all workers. Whatever is kept there may vanish at any time."""
