"""What PostgreSQL must be told for every connection of ours, and how it gets there.

A connection asks for it while it opens. Behind a pooler that lends server connections by the transaction that does not
work: PgBouncer refuses the request, or ignores it when it is told to. There the role brings the settings along instead
(`deploy/postgres/pooled.sql`), and a server that finds others in force does not start: without them a statement has no
time limit, and a commit may not be durable. See docs/decisions/0001-settings-behind-a-pooler.md.
"""

from collections.abc import Iterable

from agent_mail_core.settings import Settings

KEPT_BY_POOLERS = {"application_name": "agent-mail", "timezone": "UTC"}
"""What a pooler gives back to each client, whichever server connection it lends."""

IN_FORCE = "SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])"


def is_pooled(settings: Settings) -> bool:
    """Whether a pooler may stand between us and the server: who says so turns prepared statements off."""
    return settings.database_statement_cache == 0


def wanted(settings: Settings) -> dict[str, str]:
    """What must be in force, in the units of pg_settings."""
    statement = _milliseconds(settings.database_statement_timeout)
    return {
        "synchronous_commit": "on",
        "statement_timeout": statement,
        "lock_timeout": _milliseconds(settings.database_lock_timeout),
        "idle_in_transaction_session_timeout": statement,
        # Everything has an index to go by: a plan made while a table was small must not outlive that.
        "random_page_cost": "1.1",
        "enable_seqscan": "off",
        "jit": "off",  # for long queries; before PostgreSQL 18 the line above makes short ones look long
    }


def asked_for(settings: Settings) -> dict[str, str]:
    """What a connection asks for while it opens."""
    return {**KEPT_BY_POOLERS, **({} if is_pooled(settings) else wanted(settings))}


def complaint(settings: Settings, in_force: Iterable[tuple[str, str]]) -> str | None:
    """What to do about settings that are not as they must be; None when all are. `in_force` is what IN_FORCE found."""
    found = dict(in_force)
    missing = {name: value for name, value in wanted(settings).items() if found.get(name) != value}
    if not missing:
        return None
    named = ", ".join(f"{name} = {value}" for name, value in missing.items())
    if is_pooled(settings):
        return (
            f"Connections lack {named}: run deploy/postgres/pooled.sql on PostgreSQL itself"
            " as the role of DATABASE_URL, then RECONNECT the pooler."
        )
    return f"Connections lack {named}: a pooler in between drops it. See PgBouncer in docs/deploying.md."


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))
