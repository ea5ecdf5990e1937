"""What the driver's errors mean to a use case."""

from __future__ import annotations

from agent_mail_core.errors import Unavailable

AWAY = "The session service does not answer now; try again shortly."


def translate(error: BaseException | None = None) -> Unavailable:
    """Every failure of Redis is the same to us: nothing there is the truth, and it will be back."""
    translated = Unavailable(AWAY)
    translated.__cause__ = error
    return translated
