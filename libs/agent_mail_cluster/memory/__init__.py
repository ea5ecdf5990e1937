"""The cluster ports inside one process, for the embedded mode."""
