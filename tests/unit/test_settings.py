"""Settings: what is read from where, what stops the start, and what is never shown."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_mail_cli.settings_view import MASK, as_json, as_table, without_password
from agent_mail_core.settings import is_loopback, load, near_misses
from agent_mail_core.settings_errors import SettingsError

TOKEN = "correct-horse-battery-staple"


def problem(environ: dict[str, str], **given: Any) -> str:
    """What is wrong with the settings."""
    with pytest.raises(SettingsError) as refused:
        load(environ, **given)
    return str(refused.value)


def test_the_environment_beats_dotenv_and_that_beats_the_file() -> None:
    file = {"port": 1001, "host": "127.0.0.3", "max_waiters": 7}
    settings, warnings = load({"PORT": "1003"}, {"PORT": "1002", "HOST": "127.0.0.2"}, file)
    assert (settings.port, settings.host, settings.max_waiters) == (1003, "127.0.0.2", 7)
    assert warnings == []


def test_nothing_set_gives_a_server_for_this_machine_alone() -> None:
    settings, warnings = load({})
    assert is_loopback(settings.host)
    assert (settings.auth_mode, settings.port, warnings) == ("none", 8765, [])


def test_an_empty_value_counts_as_unset() -> None:
    assert load({"PORT": "", "LOG_FORMAT": ""}, {"PORT": ""})[0].port == 8765


def test_lists_are_split_at_commas() -> None:
    settings, _ = load({"ALLOWED_HOSTS": "a.example, b.example:80,,"}, file={"allowed_origins": ["https://c.example"]})
    assert settings.allowed_hosts == ("a.example", "b.example:80")
    assert settings.allowed_origins == ("https://c.example",)


@pytest.mark.parametrize(
    "name, value",
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("WORKERS", "2"),
        ("WORKERS", "0"),
        ("REDIS_URL", "http://localhost"),
        ("RATE_LIMIT_READS", "many"),
        ("RATE_LIMIT_WRITES", "0/minute"),
        ("RATE_LIMIT_PER_MINUTE", "100"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("DRAIN_SECONDS", "-1"),
        ("DATABASE_STATEMENT_CACHE", "-1"),
        ("AUTH_MODE", "jwt"),
        ("HTTP_BEARER_TOKEN", "short"),
        ("ALLOW_INSECURE", "maybe"),
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "nan"),
        ("MAX_BODY_BYTES", "1MB"),
        ("LOG_LEVEL", "loud"),
        ("DATABASE_URL", "mysql://host/name"),
    ],
)
def test_a_malformed_value_stops_the_start_with_its_name(name: str, value: str) -> None:
    assert problem({name: value}).startswith(f"{name}: ")


def test_words_may_be_in_any_case() -> None:
    settings, _ = load({"LOG_LEVEL": "WARNING", "LOG_FORMAT": "Json", "AUTH_MODE": "NONE"})
    assert (settings.log_level, settings.log_format, settings.auth_mode) == ("warning", "json", "none")


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("HTTP_BEARER_TOKEN", "short", "must have at least 16 characters"),
        ("RATE_LIMIT_READS", "many", "must be like 100/minute or 500/5 minutes (seconds, minutes, hours or days)"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "must be addresses or networks (192.0.2.7, 10.0.0.0/8, fd00::/8)"),
        ("PORT", "http", "must be a whole number"),
        ("PORT", "0", "must be at least 1"),
        ("PORT", "65536", "must be at most 65535"),
        ("DRAIN_SECONDS", "long", "must be a number"),
        ("REQUEST_TIMEOUT_SECONDS", "0", "must be more than 0"),
        ("ALLOW_INSECURE", "maybe", "must be true or false"),
        ("LOG_LEVEL", "loud", "must be 'debug', 'info', 'warning' or 'error'"),
        ("LLM_BASE_URL", "host", r"must be like ^https?://[^\s/]\S*$"),
    ],
)
def test_what_is_wrong_is_said_in_words_of_ours(name: str, value: str, said: str) -> None:
    assert problem({name: value}) == f"{name}: {said}"


@pytest.mark.parametrize("host", ["http://x.y/", "x.y/", "https://x.y", "*", "*.x.y", "::1", "x.y:http", "a b", "x@y"])
def test_what_no_host_header_can_match_is_refused(host: str) -> None:
    assert problem({"ALLOWED_HOSTS": f"ok.example,{host}"}).startswith("ALLOWED_HOSTS: must be names as in a Host")


@pytest.mark.parametrize("host", ["x.y", "X.Y:8765", "localhost", "10.0.0.1:80", "[::1]", "[::1]:8765", "my_host"])
def test_what_a_host_header_says_is_taken(host: str) -> None:
    assert load({"ALLOWED_HOSTS": host})[0].allowed_hosts == (host,)


@pytest.mark.parametrize("origin", ["x.y", "https://x.y/path", "https://", "*", "https://u@x.y", "null"])
def test_what_no_browser_sends_as_an_origin_is_refused(origin: str) -> None:
    assert problem({"ALLOWED_ORIGINS": origin}).startswith("ALLOWED_ORIGINS: must be origins as browsers send them")


def test_origins_may_end_with_a_slash_and_have_any_scheme() -> None:
    assert load({"ALLOWED_ORIGINS": "https://x.y:8443/,vscode-webview://abc"})


def test_every_problem_has_a_line_and_no_value_is_shown() -> None:
    said = problem({"PORT": "hunter2", "HTTP_BEARER_TOKEN": "hunter2"}, file={"prot": 1, "colour": "red"})
    assert len(said.splitlines()) == 4
    assert "prot: unknown setting; did you mean port?" in said
    assert "colour: unknown setting" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("host", ["192.168.1.2", "10.0.0.1", "::", "mail.example"])
def test_no_authentication_is_refused_where_others_can_reach_it(host: str) -> None:
    environ = {"HOST": host}
    assert problem(environ).startswith("AUTH_MODE: ")
    assert load({**environ, "ALLOW_INSECURE": "true"})
    assert load({**environ, "AUTH_MODE": "bearer", "HTTP_BEARER_TOKEN": TOKEN})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LocalHost"])
def test_loopback_addresses_need_no_authentication(host: str) -> None:
    assert load({"HOST": host})


def test_bearer_needs_a_token() -> None:
    assert problem({"AUTH_MODE": "bearer"}).startswith("HTTP_BEARER_TOKEN: ")


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    settings, warnings = load({"HTTP_BEARER_TOKEN_FILE": str(path)}, read_secret=lambda name: Path(name).read_text())
    assert settings.http_bearer_token is not None
    assert settings.http_bearer_token.get_secret_value() == TOKEN
    assert warnings == []


def test_a_secret_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("missing", "binary"):
        environ = {"METRICS_TOKEN_FILE": str(tmp_path / name)}
        said = problem(environ, read_secret=lambda path: Path(path).read_text(encoding="utf-8"))
        assert said.startswith("METRICS_TOKEN_FILE: ")


def test_a_near_miss_in_the_environment_is_told() -> None:
    assert near_misses({"DATABASE_URI": "x"}) == ["DATABASE_URI is not a setting; did you mean DATABASE_URL?"]
    assert near_misses({"ALLOWED_HOST": "x", "PATH": "x", "HOME": "x", "HOSTNAME": "x", "LANG": "x"}) == [
        "ALLOWED_HOST is not a setting; did you mean ALLOWED_HOSTS?"
    ]
    assert near_misses({"DATABASE_URL_FILE": "x", "PORT": "1"}) == []


@pytest.mark.parametrize(
    "url, shown",
    [
        ("sqlite:///data/mail.db", "sqlite:///data/mail.db"),
        ("mail.db", "mail.db"),
        ("postgresql://mail@db/mail", "postgresql://mail@db/mail"),
        ("postgresql://mail:hunter2@db:5432/mail", f"postgresql://mail:{MASK}@db:5432/mail"),
        ("postgresql://mail:a@b:c@db/mail", f"postgresql://mail:{MASK}@db/mail"),
        (
            "postgresql://db/mail?password=hunter2&sslmode=require",
            f"postgresql://db/mail?password={MASK}&sslmode=require",
        ),
        ("postgresql://mail:hunter2@[::1/x", MASK),
        ("redis://:hunter2@cache:6379/0", f"redis://:{MASK}@cache:6379/0"),
        (
            "redis+sentinel://mail:hunter2@a:26379,b:26379/main?sentinel_password=hunter2",
            f"redis+sentinel://mail:{MASK}@a:26379,b:26379/main?sentinel_password={MASK}",
        ),
    ],
)
def test_the_password_in_a_url_is_masked(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_no_secret_is_shown() -> None:
    settings, _ = load(
        {
            "AUTH_MODE": "bearer",
            "HTTP_BEARER_TOKEN": TOKEN,
            "METRICS_TOKEN": TOKEN[::-1],
            "DATABASE_URL": "postgresql://mail:hunter2@db/mail",
            "REDIS_URL": "redis://mail:hunter2@cache",
        }
    )
    shown = as_json(settings) + as_table(settings) + repr(settings) + str(settings)
    for secret in (TOKEN, TOKEN[::-1], "hunter2"):
        assert secret not in shown
    values = json.loads(as_json(settings))
    assert (values["HTTP_BEARER_TOKEN"], values["AUTH_MODE"], values["PORT"]) == (MASK, "bearer", 8765)


def test_an_empty_secret_beside_its_file_counts_as_unset() -> None:
    environ = {"AUTH_MODE": "bearer", "HTTP_BEARER_TOKEN": "", "HTTP_BEARER_TOKEN_FILE": "/run/token"}
    settings, _ = load(environ, read_secret=lambda path: "a token of enough characters\n")
    assert settings.http_bearer_token is not None
    assert settings.http_bearer_token.get_secret_value() == "a token of enough characters"
