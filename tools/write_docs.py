"""Write docs/operations.md, docs/settings.md and docs/aliases.md from the code they describe.

`python tools/write_docs.py` writes them; tests/repo/test_docs_tables.py compares.
"""

from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from agent_mail_core.settings import SECRETS, Settings, names
from agent_mail_server.aliases import ARGUMENT_ALIASES, OPERATION_ALIASES, TOOL_ALIASES
from agent_mail_server.operations import Operation
from agent_mail_server.reference import arguments, error_rows, grouped, limits_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
MADE = "<!-- Written by tools/write_docs.py: change the code, then run it. -->"


def operations_page() -> str:
    """docs/operations.md."""
    lines = [
        "# Operations",
        "",
        MADE,
        "",
        "Each is a REST call and, by the same name and with the same arguments, an MCP tool, unless it says REST only;"
        " ★ is also in the short list `/mcp?toolset=core`, through which every other tool can be called too.",
        "A running server shows the same at `/docs`, with types, limits and examples, and at `/openapi.json`.",
        "`GET /metrics` gives the counters in Prometheus' text format.",
        "Arguments with `?` may be left out; `= value` is what is then taken.",
    ]
    for heading, operations in grouped().items():
        lines += ["", f"## {heading}", "", "| operation | REST | arguments | what it does |", "|---|---|---|---|"]
        for operation in operations:
            mark = " ★" if operation.is_core else "" if operation.is_tool else " (REST only)"
            rest = ", ".join(f"`{route}`" for route in operation.routes)
            status = f" → {operation.status}" if operation.status != 200 else ""
            told = _cell(operation.description)
            lines.append(f"| {operation.name}{mark} | {rest}{status} | {_arguments(operation)} | {told} |")
    lines += ["", "## Errors", "", "| code | HTTP | exit | meaning |", "|---|---|---|---|"]
    lines += [f"| `{row.code}` | {row.status} | {row.exit_code} | {_cell(row.meaning)} |" for row in error_rows()]
    return "\n".join(lines) + "\n"


def _arguments(operation: Operation) -> str:
    words = []
    for argument in arguments(operation):
        default = f" = {argument.default}" if argument.default is not None else ""
        words.append(f"{argument.name}{'' if argument.is_required or default else '?'}{default}")
    return ", ".join(words) or "–"


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        MADE,
        "",
        "Read from the environment, then from `.env` in the working directory, then from `--config file.toml` (there"
        " in lower case if you like); the first that says something wins.",
        "An empty value counts as unset. `agent-mail config` shows what is in force, secrets masked.",
        "",
        "| name | default | limits | meaning |",
        "|---|---|---|---|",
    ]
    schema = Settings.model_json_schema()["properties"]
    for name, field in names().items():
        info = Settings.model_fields[field]
        limits = limits_of(schema[field]) or next(
            (text for part in schema[field].get("anyOf", ()) if (text := limits_of(part))), "–"
        )
        lines.append(f"| {name} | {_default(info)} | {limits} | {_cell(info.description or '')} |")
    secret = ", ".join(f"`{name}_FILE`" for name in sorted(SECRETS))
    lines += ["", f"Secrets may also be given as the path of a file: {secret}."]
    return "\n".join(lines) + "\n"


def _default(info: FieldInfo) -> str:
    value = info.get_default()
    if value is PydanticUndefined or value is None or value == ():
        return "–"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def aliases_page() -> str:
    """docs/aliases.md."""
    lines = [
        "# Other names that are read",
        "",
        MADE,
        "",
        "Prompts and scripts written for the Rust port go on working: these names are read, and shown in no schema."
        " Of an alias and its own name in one call the alias is refused.",
        "",
        "## Tools",
        "",
        "| alias | operation |",
        "|---|---|",
        *(f"| {alias} | {name} |" for alias, name in TOOL_ALIASES.items()),
        "",
        "## Arguments",
        "",
        "`to`, `cc` and `bcc` may also be one text with commas.",
        "",
        "| alias | argument | of |",
        "|---|---|---|",
        *(f"| {alias} | {name} | every operation that has it |" for alias, name in ARGUMENT_ALIASES.items()),
    ]
    for operation, table in OPERATION_ALIASES.items():
        lines += [f"| {alias} | {name} | {operation} |" for alias, name in table.items()]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {"operations.md": operations_page, "settings.md": settings_page, "aliases.md": aliases_page}


def main() -> None:
    DOCS.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
