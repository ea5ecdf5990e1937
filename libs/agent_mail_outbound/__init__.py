"""Calls of HTTP addresses that users name, and that nobody trusts."""
