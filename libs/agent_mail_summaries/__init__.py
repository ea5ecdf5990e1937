"""Summarizer: the port of agent_mail_core.summaries, by rules and by a language model."""
