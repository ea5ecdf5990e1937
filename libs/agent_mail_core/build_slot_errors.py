"""Errors about build slots, in the tree of `errors`."""

from agent_mail_core.errors import Conflict, Limited, NotFound


class SlotNotFound(NotFound):
    """No such build slot in this project: list_slots shows those there are, acquire_build_slot makes one."""

    code = "slot_not_found"


class SlotNotHeld(Conflict):
    """The agent has no lease of this build slot, or has it no longer: acquire_build_slot gets another."""

    code = "slot_not_held"


class SlotCapacityMismatch(Conflict):
    """This build slot has another capacity: leave capacity out, or let an administrator change it."""

    code = "slot_capacity_mismatch"


class TooManySlots(Limited):
    """This project has as many build slots as one may have: use one that is there."""

    code = "too_many_slots"
