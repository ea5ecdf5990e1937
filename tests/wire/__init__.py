"""The application in process: REST, MCP, pages and their errors."""
