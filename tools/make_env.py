"""Write `.env` for docker-compose.yml: a token and passwords, new and random. Standard library only.

The file is its owner's alone. One that is there stays, for its passwords are in the database by now; FORCE=1 replaces
it.
"""

import os
import secrets
import sys
from pathlib import Path

SECRETS = (
    ("HTTP_BEARER_TOKEN", "what clients send: Authorization: Bearer …"),
    ("METRICS_TOKEN", "opens /metrics alone"),
    ("POSTGRES_PASSWORD", "the administrator of the database"),
    ("POSTGRES_OWNER_PASSWORD", "agent_mail_owner, which changes the schema"),
    ("POSTGRES_APP_PASSWORD", "agent_mail_app, as which the servers read and write"),
    ("REDIS_PASSWORD", "the user agent-mail of Redis"),
)


def contents() -> str:
    """The file's text. The secrets need no quoting in a URL, a shell or a configuration file."""
    lines = ["# Made by `make env` and read by `docker compose` (and by `make run`). Keep it to yourself.", ""]
    lines += ["AUTH_MODE=bearer"]
    for name, purpose in SECRETS:
        lines += [f"# {purpose}", f"{name}={secrets.token_hex(32)}"]
    lines += [
        "",
        "# The names that clients use in the address, and where the balancer listens on this machine:",
        "#ALLOWED_HOSTS=localhost,127.0.0.1,mail.example.com",
        "#PUBLISH=127.0.0.1:8765",
    ]
    return "\n".join(lines) + "\n"


def write(path: Path, is_forced: bool) -> None:
    """Write the file, whole or not at all. Raises FileExistsError when it is there and nobody forces it."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(contents())
        if is_forced:
            new.replace(path)
        else:
            os.link(new, path)  # the one call that never replaces
    finally:
        new.unlink(missing_ok=True)


def main() -> int:
    path = Path(".env")
    try:
        write(path, is_forced=os.environ.get("FORCE") == "1")
    except FileExistsError:
        print(
            f"{path} is there, and stays as it is: its passwords are those of the database. `make env FORCE=1` writes a"
            " new one; docs/deploying.md says how the database learns of it.",
            file=sys.stderr,
        )
        return 1
    print(f"Wrote {path}, readable by you alone. Next: docker compose up --detach --build")
    return 0


if __name__ == "__main__":
    sys.exit(main())
