"""Agent Mail's rules: models, use cases and the ports they need; imports the standard library and pydantic alone."""
