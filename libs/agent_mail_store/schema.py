"""The schema that this version of the stores needs: the number of the newest migration."""

from agent_mail_core.errors import SchemaTooOld

SCHEMA_VERSION = 6


def check_serves(schema_version: int, oldest_code: str) -> None:
    """Raise SchemaTooOld unless a database of that schema serves this code, and this code it.

    Code is as old as the newest migration that it knows; `oldest_code` is the database's fact of that name.
    """
    if schema_version < SCHEMA_VERSION:
        raise SchemaTooOld
    if int(oldest_code) > SCHEMA_VERSION:
        raise SchemaTooOld(
            f"The database has schema {schema_version}, which no longer serves this version: run a newer version."
        )
