"""Legal holds over REST: administrators place, list and lift them; who else asks is told no."""

from __future__ import annotations

from agent_mail_core.ports import Role
from agent_mail_server.operations import BY_NAME
from tests.wire.server import Place, client_of, error_of, fleet, furnish, post

SHOP = {"project_slug": "shop"}


async def test_a_project_on_hold_is_listed_and_cannot_be_deleted(place: Place) -> None:
    async with fleet(place) as servers, client_of(servers) as client:
        await furnish(client)
        assert await post(client, "admin/hold/set", **SHOP, on_hold=True, reason="Case 4711") == {
            "project_slug": "shop",
            "on_hold": True,
            "changed": True,
        }
        assert not (await post(client, "admin/hold/set", **SHOP, on_hold=True))["changed"]
        [hold] = (await client.get("/api/admin/hold/list")).json()["holds"]
        assert (hold["project_slug"], hold["reason"], hold["placed_by"]) == ("shop", "Case 4711", "local")
        refused = await client.delete("/api/project/shop")
        assert (refused.status_code, error_of(refused)["code"]) == (409, "project_on_hold")
        assert (await post(client, "admin/hold/set", **SHOP, on_hold=False))["changed"]
        assert (await client.get("/api/admin/hold/list")).json() == {"holds": []}
        assert (await client.delete("/api/project/shop")).is_success


async def test_what_is_unknown_or_missing_is_refused(place: Place) -> None:
    async with fleet(place) as servers, client_of(servers) as client:
        unknown = await client.post("/api/admin/hold/set", json={"project_slug": "none", "on_hold": True})
        assert error_of(unknown)["code"] == "project_not_found"
        missing = await client.post("/api/admin/hold/set", json=SHOP)
        assert error_of(missing)["code"] == "invalid_arguments"
        assert error_of(await client.get("/api/admin/hold/list?cursor=x"))["code"] == "invalid_cursor"


def test_they_are_for_administrators_and_no_tools() -> None:
    for name in ("set_legal_hold", "list_legal_holds"):
        assert (BY_NAME[name].role, BY_NAME[name].is_tool) == (Role.admin, False)
