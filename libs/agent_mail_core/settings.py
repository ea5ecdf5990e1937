"""Settings: one frozen object, read once from the environment, a .env file and a TOML file (SPEC §9).

`load` takes plain mappings, so nothing here touches the process; main modules read the world and pass it in.
`docs/settings.md` is generated from the fields below.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from agent_mail_core import database_urls
from agent_mail_core.settings_errors import SettingsError
from agent_mail_core.settings_values import Hosts, Networks, Origins, Rate, Word, in_plain_words

SECRETS = frozenset(
    {
        "HTTP_BEARER_TOKEN",
        "DATABASE_URL",
        "REDIS_URL",
        "METRICS_TOKEN",
        "ARCHIVE_REMOTE",
        "LLM_API_KEY",
        "EMBEDDINGS_API_KEY",
    }
)
"""Settings that may also be given as the path of a file, under their name and `_FILE`."""


REDIS_SCHEMES = ("redis://", "rediss://", "redis+sentinel://", "rediss+sentinel://", "unix://")


class Settings(BaseModel):
    """Everything that can be set. Field names in upper case are the names of the environment variables."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Where it listens
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8765, ge=1, le=65535, description="Port to listen on")
    workers: int = Field(1, ge=1, le=256, description="Worker processes on the port; several need REDIS_URL")
    drain_seconds: float = Field(
        5, ge=0, le=300, description="Seconds that a stopping server goes on accepting while `/ready` says 503"
    )

    # Database
    database_url: SecretStr = Field(
        SecretStr("sqlite:///data/mcp_agent_mail.db"),
        description="`sqlite:///relative`, `sqlite:////absolute`, a bare path, or `postgresql://user:password@host/name`",
    )
    database_pool_size: int = Field(10, ge=2, le=500, description="Connections of a worker")
    database_statement_timeout: float = Field(5, gt=0, le=3600, description="Seconds a statement may take")
    database_lock_timeout: float = Field(2, gt=0, le=3600, description="Seconds to wait for a lock or a connection")
    database_statement_cache: int = Field(
        256, ge=0, le=10_000, description="Prepared statements a Postgres connection keeps; 0 behind PgBouncer"
    )

    # What several servers share
    redis_url: SecretStr | None = Field(
        None,
        description="Redis or Valkey: `redis://user:password@host:6379/0`, `rediss://…` with TLS, or"
        " `redis+sentinel://host:26379,host:26379/service`",
    )

    # Background work
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of HOST where a job worker serves its metrics, for a network of its own"
    )

    # Who may call
    auth_mode: Annotated[Literal["none", "bearer"], Word] = Field(
        "none", description="`none` (loopback only) or `bearer`"
    )
    http_bearer_token: SecretStr | None = Field(None, min_length=16, description="The token of AUTH_MODE=bearer")
    allow_insecure: bool = Field(False, description="Allow AUTH_MODE=none on an address that is not loopback")
    allowed_hosts: Hosts = Field(
        (), description="Host headers to accept, with or without port; empty: loopback names and HOST"
    )
    allowed_origins: Origins = Field((), description="Origins that browsers may call from; empty: the same host")
    metrics_token: SecretStr | None = Field(None, min_length=16, description="A token that opens /metrics alone")

    # How often they may
    rate_limit_enabled: bool = Field(True, description="Limit how often callers may call")
    rate_limit_reads: Rate = Field("100/minute", description="Reads of an acting agent, or of who names none")
    rate_limit_writes: Rate = Field("100/minute", description="Writes, likewise")
    rate_limit_logins: Rate = Field("10/minute", description="Credentials that are refused, by client address")
    rate_limit_team: Rate = Field("6000/minute", description="All calls of a team")
    trusted_proxies: Networks = Field(
        (), description="Addresses or networks of proxies whose X-Forwarded-For names the client"
    )

    # Bounds
    request_timeout_seconds: float = Field(10, gt=0, le=3600, description="Deadline of a request; waits have their own")
    max_body_bytes: int = Field(1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest request body")
    max_json_depth: int = Field(64, ge=8, le=512, description="Deepest nesting of a request body")
    max_in_flight: int = Field(256, ge=1, le=65536, description="Requests at work at once, waits apart; more get 503")
    max_waiters: int = Field(1000, ge=1, le=100_000, description="Waiting calls of a team, in each worker")
    reservation_stale_seconds: int = Field(
        1800, ge=60, le=30 * 86400, description="Anybody may end a reservation whose holder was idle for so long"
    )
    ack_overdue_seconds: int = Field(
        3600, ge=60, le=30 * 86400, description="An acknowledgement that is owed for so long is escalated, once"
    )
    session_ttl_seconds: int = Field(86400, ge=60, le=30 * 86400, description="An unused MCP session ends after this")

    # The archive
    archive_root: str = Field("data/archive", min_length=1, description="Folder of the projects' git repositories")
    archive_remote: SecretStr | None = Field(
        None, description="Where copies of them go: a folder, or an `https://…` or `ssh://…` URL that names end"
    )

    # Retention
    retention_days: int | None = Field(
        None, ge=1, le=36500, description="Mail that is older goes for good, read or not; unset: it is kept"
    )
    retention_messages: int | None = Field(
        None, ge=1, le=10**9, description="Of a project's mail the oldest goes beyond so many messages"
    )

    # Summaries
    llm_base_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]\S*$",
        max_length=2000,
        description="OpenAI-compatible endpoint that writes summaries, as far as `/v1`; without one, rules make them",
    )
    llm_model: str | None = Field(None, min_length=1, max_length=200, description="Its model")
    llm_api_key: SecretStr | None = Field(None, description="Its key")

    # Webhooks
    webhook_allowed_networks: Networks = Field(
        (), description="Private addresses or networks that webhooks may go to, there also by `http://`"
    )

    # Searching by meaning
    embeddings: Literal["off", "local", "http"] = Field(
        "off",
        description="Model: `http` is an OpenAI-compatible endpoint, `local` static vectors on disk",
    )
    embeddings_base_url: str | None = Field(
        None, pattern=r"^https?://[^\s/]\S*$", max_length=2000, description="The endpoint of `http`, as far as `/v1`"
    )
    embeddings_model: str | None = Field(None, min_length=1, max_length=200, description="Its model")
    embeddings_dimensions: int | None = Field(None, ge=8, le=4096, description="Length of its vectors")
    embeddings_api_key: SecretStr | None = Field(None, description="Its key")
    embeddings_path: str | None = Field(None, min_length=1, description="Folder of the model of `local`")
    embeddings_min_similarity: float = Field(
        0.1, ge=-1, le=1, description="Messages less like the query are not found by their meaning"
    )

    # Logs
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Word] = Field(
        "info", description="What is logged"
    )
    log_format: Annotated[Literal["json", "text"] | None, Word] = Field(
        None, description="json, or text; text on a terminal"
    )


def names() -> dict[str, str]:
    """Environment name → field name."""
    return {field.upper(): field for field in Settings.model_fields}


def load(
    environ: Mapping[str, str],
    dotenv: Mapping[str, str | None] | None = None,
    file: Mapping[str, Any] | None = None,
    read_secret: Any = None,
) -> tuple[Settings, list[str]]:
    """Settings and warnings, from (strongest first) the environment, a .env file, and a configuration file.

    An unknown key in the file or a value that is malformed raises SettingsError naming it; a name in the environment
    that is nearly one of ours is a warning. `read_secret(path)` gives the text of a `NAME_FILE` file. An empty value
    counts as unset.
    """
    known = names()
    problems: list[str] = []
    values = _of_file(file or {}, problems)
    merged = {
        **{key: value for key, value in (dotenv or {}).items() if value},
        **{k: v for k, v in environ.items() if v},
    }
    problems += [
        f"{name}: there is no such limit; there are {', '.join(n for n in known if n.startswith('RATE_LIMIT_'))}"
        for name in merged
        if name.startswith("RATE_LIMIT_") and name not in known
    ]
    for name, field in known.items():
        if name in merged:
            values[field] = merged[name]
        path = merged.get(f"{name}_FILE") if name in SECRETS else None
        if path and not environ.get(name) and (secret := _secret(name, path, read_secret, problems)) is not None:
            values[field] = secret
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems += [f"{str(item['loc'][0]).upper()}: {in_plain_words(item)}" for item in error.errors()]
    if problems:
        raise SettingsError("\n".join(problems))
    check_together(settings)
    return settings, near_misses(merged)


def _of_file(file: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """By field name; a key that is none is a problem."""
    known = names()
    values: dict[str, Any] = {}
    for key, value in file.items():
        if key.upper() in known:
            values[known[key.upper()]] = value
            continue
        near = difflib.get_close_matches(key.upper(), known, n=1)
        problems.append(f"{key}: unknown setting" + (f"; did you mean {near[0].lower()}?" if near else ""))
    return values


def _secret(name: str, path: str, read_secret: Any, problems: list[str]) -> str | None:
    """The content of a secret's file; None, and a problem, when it cannot be read."""
    try:
        return str(read_secret(path)).strip()
    except OSError as error:
        problems.append(f"{name}_FILE: cannot read {path}: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"{name}_FILE: {path} is not UTF-8")
    return None


def near_misses(environ: Mapping[str, str]) -> list[str]:
    """One sentence for each name that is nearly, but not quite, a setting."""
    known = names()
    sentences = []
    for name in environ:
        base = name.removesuffix("_FILE")
        if name in known or base in SECRETS or not re.fullmatch(r"[A-Z][A-Z0-9_]{3,}", name):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
        if near:
            sentences.append(f"{name} is not a setting; did you mean {near[0]}?")
    return sentences


def check_together(settings: Settings) -> None:
    """Raise SettingsError for settings that are each right but not together."""
    if settings.auth_mode == "bearer" and settings.http_bearer_token is None:
        raise SettingsError("HTTP_BEARER_TOKEN: needed with AUTH_MODE=bearer (at least 16 characters)")
    if settings.auth_mode == "none" and not is_loopback(settings.host) and not settings.allow_insecure:
        raise SettingsError(
            f"AUTH_MODE: none is refused on {settings.host}, which is not a loopback address; set AUTH_MODE=bearer and"
            " HTTP_BEARER_TOKEN, or ALLOW_INSECURE=true if something else guards the port"
        )
    if (settings.llm_base_url is None) != (settings.llm_model is None):
        raise SettingsError("LLM_BASE_URL, LLM_MODEL: give both, or neither")
    asked = (settings.embeddings_base_url, settings.embeddings_model, settings.embeddings_dimensions)
    if settings.embeddings == "http" and None in asked:
        raise SettingsError(
            "EMBEDDINGS: http needs EMBEDDINGS_BASE_URL, EMBEDDINGS_MODEL and EMBEDDINGS_DIMENSIONS (of its vectors)"
        )
    if settings.embeddings == "local" and settings.embeddings_path is None:
        raise SettingsError("EMBEDDINGS: local needs EMBEDDINGS_PATH, the folder of the model")
    if settings.workers > 1 and settings.redis_url is None:
        raise SettingsError("WORKERS: more than one needs REDIS_URL, through which workers wake each other")
    if settings.redis_url is not None and not settings.redis_url.get_secret_value().startswith(REDIS_SCHEMES):
        raise SettingsError(f"REDIS_URL: must begin with one of {', '.join(REDIS_SCHEMES)}")
    database_urls.check(settings.database_url.get_secret_value())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
