"""The version of the installed package."""

from importlib import metadata


def version() -> str:
    """As the package says; `0` when the sources run without being installed."""
    try:
        return metadata.version("agent-mail")
    except metadata.PackageNotFoundError:
        return "0"
