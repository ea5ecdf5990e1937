"""Who is where when a plan begins."""

HOMES = {
    "shop": ("Ann", "Bob", "Cid", "Dot"),
    "store": ("Ann", "Dot", "Eve"),
    "depot": ("Bob",),
}
"""The projects with their agents."""

PAIR = (("shop", "Ann", "Eve@store"), ("store", "Eve", "Ann@shop"))
"""Two who have much to do with each other as contacts: seen from either side."""


def owner(agent_name: str) -> str:
    """Whose agents of this name are."""
    return "bob" if agent_name == "Cid" else "ann"
