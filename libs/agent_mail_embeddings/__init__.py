"""Makers of vectors: an OpenAI-compatible endpoint, and static vectors from disk."""
