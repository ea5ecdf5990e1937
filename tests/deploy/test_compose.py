"""docker-compose.yml: valid, without secrets, hardened, and in the settings' own words."""

import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import compose_spec
import dotenv
import pytest
import yaml

from agent_mail_core.settings import SECRETS, load, names
from tests.deploy.compose import COMPOSE_FILE, Missing, project
from tests.deploy.compose import names as variables_of
from tests.deploy.programs import ROOT

TEXT = COMPOSE_FILE.read_text(encoding="utf-8")
OURS = ("migrate", "server", "worker")
MADE = (*OURS, "postgres", "redis", "balancer")


def make_env(folder: Path, force: str = "") -> "subprocess.CompletedProcess[str]":
    """`make env` in a folder, as make runs it."""
    command = [sys.executable, str(ROOT / "tools" / "make_env.py")]
    return subprocess.run(command, cwd=folder, env={"FORCE": force}, capture_output=True, text=True, timeout=60)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """What `make env` writes."""
    assert make_env(tmp_path).returncode == 0
    return {name: value or "" for name, value in dotenv.dotenv_values(tmp_path / ".env").items()}


@pytest.fixture
def services(env: dict[str, str]) -> dict[str, Any]:
    """The services, resolved."""
    found: dict[str, Any] = project(env)["services"]
    return found


def test_make_env_writes_new_secrets_that_nobody_else_reads_and_stays_by_them(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    first = make_env(tmp_path)
    assert first.returncode == 0, first.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    values = {name: value or "" for name, value in dotenv.dotenv_values(path).items()}
    assert values.pop("AUTH_MODE") == "bearer"
    assert len(set(values.values())) == len(values)
    for value in values.values():
        assert re.fullmatch(r"[0-9a-f]{64}", value), "it stands in a URL as it is"
        assert value not in first.stdout

    second = make_env(tmp_path)
    assert second.returncode == 1
    assert "FORCE=1" in second.stderr
    assert path.read_text() == text

    assert make_env(tmp_path, force="1").returncode == 0
    assert path.read_text() != text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == [".env"]


def test_the_settings_of_make_env_are_usable(env: dict[str, str]) -> None:
    settings, warnings = load(env)
    assert settings.auth_mode == "bearer"
    assert warnings == []


def test_without_its_secrets_compose_says_what_to_do(env: dict[str, str]) -> None:
    taken = {name for name in variables_of(TEXT) if name in env} - {"METRICS_TOKEN"}
    assert taken == set(env) - {"METRICS_TOKEN"}, "make env writes what the file takes"
    for name in taken:
        with pytest.raises(Missing, match=f"{name}: run make env"):
            project({**env, name: ""})


def test_it_follows_the_compose_specification(env: dict[str, str]) -> None:
    text = yaml.safe_dump(project(env))
    compose_spec.PyCompose.from_yaml(text).validate()
    with pytest.raises(ValueError, match="readonly"):
        compose_spec.PyCompose.from_yaml(text.replace("read_only:", "readonly:"))


def test_every_name_in_our_environment_is_a_setting(services: dict[str, Any]) -> None:
    known = {*names(), *(f"{name}_FILE" for name in SECRETS)}
    assert {name: set(services[name]["environment"]) - known for name in OURS} == {name: set() for name in OURS}


@pytest.mark.parametrize("service", OURS)
def test_our_environment_makes_settings(service: str, services: dict[str, Any]) -> None:
    """With HOST as the image sets it."""
    settings, warnings = load({"HOST": "0.0.0.0", **services[service]["environment"]})  # noqa: S104
    assert warnings == []
    assert settings.auth_mode == "bearer"
    role = "agent_mail_owner" if service == "migrate" else "agent_mail_app"
    assert settings.database_url.get_secret_value().startswith(f"postgresql://{role}:")


def test_there_is_no_secret_in_it() -> None:
    services = yaml.safe_load(TEXT)["services"]
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET|KEY|_URL$", variable):
                assert re.search(r"\$\{\w+:(\?run make env|-)\}", value), f"{name}: {variable} is in clear"
    assert not re.search(r"://[^/@\s]*:[^$@\s]+@", TEXT), "a password in an address"
    assert services["redis"].get("command") is None, "a password on a command line is in the list of processes"


@pytest.mark.parametrize("service", MADE)
def test_a_service_has_no_more_rights_than_it_needs(service: str, services: dict[str, Any]) -> None:
    found = services[service]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found.get("cap_add", []) == (["NET_BIND_SERVICE"] if service == "balancer" else [])
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "devices", "container_name"} & set(found)
    assert service in OURS or re.fullmatch(r"[1-9]\d*:[1-9]\d*", found["user"]), "the image's own user may be root"
    limits = found["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert found["restart"] == ("no" if service == "migrate" else "unless-stopped")
    assert found["logging"]["options"]["max-size"]
    for mount in found.get("volumes", []):
        assert "docker.sock" not in mount
        assert mount.endswith(":ro") or mount.startswith({"worker": "archive:"}.get(service, "postgres:"))
    assert ("ports" in found) == (service == "balancer")


def test_there_are_no_other_services(services: dict[str, Any]) -> None:
    assert set(services) == set(MADE)


@pytest.mark.parametrize("service", MADE)
def test_an_image_is_pinned(service: str, services: dict[str, Any]) -> None:
    image, _, tag = services[service]["image"].partition(":")
    assert re.match(r"\d+", tag), f"{image} has no version"


def test_our_image_has_our_version(services: dict[str, Any]) -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert {services[name]["image"] for name in OURS} == {f"agent-mail:{version[1]}"}


def test_services_start_in_order_of_health(services: dict[str, Any]) -> None:
    assert _conditions(services["migrate"]) == {"postgres": "service_healthy"}
    for name in ("server", "worker"):
        assert _conditions(services[name]) == {
            "migrate": "service_completed_successfully",
            "postgres": "service_healthy",
            "redis": "service_healthy",
        }
    assert _conditions(services["balancer"]) == {"server": "service_healthy"}
    for name in ("server", "worker", "postgres", "redis", "balancer"):
        assert services[name]["healthcheck"]["test"]


def _conditions(service: Mapping[str, Any]) -> dict[str, str]:
    return {name: needed["condition"] for name, needed in service["depends_on"].items()}


def test_only_the_balancer_is_reached_from_outside(env: dict[str, str], services: dict[str, Any]) -> None:
    networks = project(env)["networks"]
    assert {name for name, network in networks.items() if not network.get("internal")} == {"public", "out"}
    assert {name: services[name]["networks"] for name in MADE} == {
        "migrate": ["data"],
        "server": ["edge", "data", "out"],
        "worker": ["out", "data"],
        "postgres": ["data"],
        "redis": ["data"],
        "balancer": ["public", "edge"],
    }
    assert services["balancer"]["ports"] == ["127.0.0.1:8765:8080"]


def test_forwarded_addresses_are_believed_from_the_balancers_network_alone(env: dict[str, str]) -> None:
    for variables in (env, {**env, "EDGE_SUBNET": "10.9.8.0/24"}):
        found = project(variables)
        assert (
            found["services"]["server"]["environment"]["TRUSTED_PROXIES"]
            == (found["networks"]["edge"]["ipam"]["config"][0]["subnet"])
        )


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    sources = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    files = [source for source in sources if source.startswith("./")]
    assert len(files) == 3
    assert [source for source in files if not (ROOT / source).is_file()] == []


def test_an_overlay_joins_it(env: dict[str, str]) -> None:
    for overlay in sorted((ROOT / "deploy").glob("compose.*.yml")):
        found = project({**env, "SITE_ADDRESS": "mail.example.com"}, overlay.read_text(encoding="utf-8"))
        assert set(found["services"]) <= set(MADE), overlay.name
