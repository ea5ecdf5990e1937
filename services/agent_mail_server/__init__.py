"""The server process: REST, MCP and pages, all derived from operations.py."""
