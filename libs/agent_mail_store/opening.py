"""Opening the store that DATABASE_URL names."""

from agent_mail_core import database_urls
from agent_mail_core.ports import Clock, Store
from agent_mail_core.settings import Settings


async def open_store(settings: Settings, clock: Clock, single_server: bool) -> Store:
    """The migrated database of `settings.database_url`, ready for use; close it when done.

    `single_server` keeps every other server that asks for it away until this store is closed, or its process ends:
    ServerAlreadyRunning when one is there. Raises SchemaTooOld and DatabaseUnavailable as `Store.check` does, and
    RestoreUnfinished. `clock` is for stores without one of their own.
    """
    # The driver of the other engine is not loaded.
    if database_urls.engine(settings.database_url.get_secret_value()) == "sqlite":
        from agent_mail_store.sqlite.store import SqliteStore

        return await SqliteStore.open(settings, clock, single_server)
    from agent_mail_store.postgres.store import PostgresStore

    return await PostgresStore.open(settings, single_server)
