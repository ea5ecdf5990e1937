"""Numbered schema changes for both engines, and the runner that applies them."""
