"""The page /docs: every operation with its arguments, examples and errors, made for the first who asks."""

from __future__ import annotations

from importlib import resources

from agent_mail_core.settings import Settings
from agent_mail_server.examples import examples_of
from agent_mail_server.http_request import Answer
from agent_mail_server.operations import OPERATIONS
from agent_mail_server.reference import arguments, error_rows, grouped
from agent_mail_server.security import PAGE_HEADERS

ASSETS = {
    "docs.css": b"text/css; charset=utf-8",
    "docs.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}


class DocsPages:
    """The page and what it loads."""

    def __init__(self, version: str, settings: Settings) -> None:
        self._version = version
        self._settings = settings
        self.assets = {f"/docs/{name}": _asset(name, media_type) for name, media_type in ASSETS.items()}

    def page(self) -> Answer:
        """The page, made anew."""
        html = docs_html(self._version, self._settings)
        return Answer(200, html.encode(), b"text/html; charset=utf-8", security=PAGE_HEADERS)


def docs_html(version: str, settings: Settings) -> str:
    """The page as HTML."""
    # Nothing else is a template, and it takes 2 MB.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("agent_mail_server", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    base_url, with_token = base_address(settings), settings.auth_mode == "bearer"
    examples = {
        operation.name: [example.curl(base_url, with_token) for example in examples_of(operation.name)]
        for operation in OPERATIONS
    }
    return environment.get_template("docs.html").render(
        version=version,
        groups=grouped(),
        arguments={operation.name: arguments(operation) for operation in OPERATIONS},
        examples=examples,
        errors=error_rows(),
        with_token=with_token,
        base_url=base_url,
    )


def base_address(settings: Settings) -> str:
    """Where this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{settings.port}"


def _asset(name: str, media_type: bytes) -> Answer:
    body = resources.files("agent_mail_server").joinpath("assets", name).read_bytes()
    return Answer(200, body, media_type, security=PAGE_HEADERS)
