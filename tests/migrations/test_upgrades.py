"""What a migration makes of rows that were there before it, from each release on."""

from agent_mail_core.agents import SERVICE_MODEL, SERVICE_OWNER, SERVICE_POLICIES, SERVICE_PROGRAM
from agent_mail_migrations import postgres_runner, sqlite_runner
from agent_mail_migrations.runner import migrate, migrations
from tests.migrations.schemas import Schema


async def migrate_up_to(schema: Schema, number: int) -> None:
    """As a release left it that had only so many migrations."""
    runner = sqlite_runner if schema.engine == "sqlite" else postgres_runner
    await runner.apply(schema.url, migrations(schema.engine)[:number], str(number))


async def test_an_older_project_gets_the_agents_and_mailboxes_that_a_new_one_has(empty: Schema) -> None:
    await migrate_up_to(empty, 1)
    for key in ("one", "two"):
        empty.run(
            f"INSERT INTO projects (team_id, slug, human_key, created_at) VALUES (1, '{key}', '{key}', {empty.now})"
        )
    await migrate(empty.url)
    found = empty.run(
        """
        SELECT p.slug, a.name, a.contact_policy, a.program, a.model, a.owner, a.retired_at, b.position, b.unread
        FROM projects p JOIN agents a ON a.project_id = p.id JOIN mailboxes b ON b.agent_id = a.id
        WHERE a.is_service ORDER BY p.slug, a.name
        """
    )
    of_both = (SERVICE_PROGRAM, SERVICE_MODEL, SERVICE_OWNER, None, 0, 0)
    assert found == [(slug, *one, *of_both) for slug in ("one", "two") for one in SERVICE_POLICIES.items()]
