"""Reservations and build slots as an office asks for them, and their time made to pass."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from agent_mail_core.acquiring import AcquireBuildSlot, AcquiredBuildSlot, acquire_build_slot
from agent_mail_core.build_slots import ListSlots, SlotPage, list_slots
from agent_mail_core.holding import (
    ForceReleased,
    ForceReleaseFile,
    Released,
    ReleaseFile,
    RenewedReservations,
    RenewFile,
    force_release_file,
    release_file,
    renew_file,
)
from agent_mail_core.path_checks import CheckedPaths, CheckPaths, check_paths
from agent_mail_core.ports import Role
from agent_mail_core.reservations import ListReservations, ReservationPage, list_reservations
from agent_mail_core.reserving import Reserved, ReserveFile, reserve_file
from agent_mail_core.slot_holding import (
    ReleaseBuildSlot,
    ReleasedBuildSlot,
    RenewBuildSlot,
    RenewedBuildSlot,
    release_build_slot,
    renew_build_slot,
)
from tests.contract.databases import Database
from tests.contract.office import Office


async def reserve(office: Office, name: str, *paths: str, **more: Any) -> Reserved:
    request = ReserveFile(project_slug=office.slug, agent_name=name, paths=list(paths), **more)
    return await reserve_file(office.app, office.caller, request)


async def release(office: Office, name: str, *paths: str, ids: list[int] | None = None) -> Released:
    request = ReleaseFile(project_slug=office.slug, agent_name=name, paths=list(paths) or None, ids=ids)
    return await release_file(office.app, office.caller, request)


async def renew(office: Office, name: str, *paths: str, **more: Any) -> RenewedReservations:
    request = RenewFile(project_slug=office.slug, agent_name=name, paths=list(paths) or None, **more)
    return await renew_file(office.app, office.caller, request)


async def force(
    office: Office, name: str, reservation_id: int, reason: str = "urgent", override: bool = False
) -> ForceReleased:
    request = ForceReleaseFile(
        project_slug=office.slug, agent_name=name, reservation_id=reservation_id, reason=reason, override=override
    )
    return await force_release_file(office.app, office.caller, request)


async def force_through(office: Office, name: str, reservation_id: int, reason: str = "urgent") -> ForceReleased:
    """As an administrator, whatever the holder does."""
    return await force(office.of("root", Role.admin), name, reservation_id, reason, override=True)


async def check(office: Office, *paths: str, agent_name: str | None = None) -> CheckedPaths:
    request = CheckPaths(project_slug=office.slug, paths=list(paths), agent_name=agent_name)
    return await check_paths(office.app, office.caller, request)


async def listed(office: Office, **more: Any) -> ReservationPage:
    return await list_reservations(office.app, office.caller, ListReservations(project_slug=office.slug, **more))


async def acquire(office: Office, name: str, slot_name: str = "ci", **more: Any) -> AcquiredBuildSlot:
    request = AcquireBuildSlot(project_slug=office.slug, agent_name=name, slot_name=slot_name, **more)
    return await acquire_build_slot(office.app, office.caller, request)


async def renew_slot(office: Office, name: str, slot_name: str = "ci", **more: Any) -> RenewedBuildSlot:
    request = RenewBuildSlot(project_slug=office.slug, agent_name=name, slot_name=slot_name, **more)
    return await renew_build_slot(office.app, office.caller, request)


async def release_slot(office: Office, name: str, slot_name: str = "ci", **more: Any) -> ReleasedBuildSlot:
    request = ReleaseBuildSlot(project_slug=office.slug, agent_name=name, slot_name=slot_name, **more)
    return await release_build_slot(office.app, office.caller, request)


async def slots(office: Office, **more: Any) -> SlotPage:
    return await list_slots(office.app, office.caller, ListSlots(project_slug=office.slug, **more))


def patterns(granted: Iterable[Any]) -> list[str]:
    """The patterns of grants or conflicts, in order."""
    return [one.pattern for one in granted]


async def pass_time(database: Database, by: timedelta) -> None:
    """As if every lease, place in a queue and agent had been there so much longer."""
    await database.age("reservations", by, "granted_at", "renewed_at", "expires_at", "released_at")
    await database.age("slot_leases", by, "acquired_at", "renewed_at", "expires_at", "released_at")
    await database.age("lease_tickets", by, "created_at", "asked_at")
    await database.age("agents", by, "last_active_at")
