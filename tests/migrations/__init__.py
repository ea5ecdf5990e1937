"""Schema changes on both engines, from empty and from each release."""
