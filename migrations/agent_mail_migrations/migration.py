"""One numbered change of a schema."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    """A change of one engine's schema: its number, its file's name without the ending, and its SQL."""

    number: int
    name: str
    sql: str
