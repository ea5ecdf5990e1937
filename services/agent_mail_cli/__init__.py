"""The `agent-mail` command."""
