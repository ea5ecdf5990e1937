"""Errors about file reservations, in the tree of `errors`."""

from agent_mail_core.errors import Conflict, Forbidden, Limited, NotFound


class ReservationNotFound(NotFound):
    """No such reservation in this project: list_reservations shows those there are."""

    code = "reservation_not_found"


class ReservationNotHeld(Conflict):
    """The agent does not hold all of these reservations: nothing was moved. `data.paths` names those it does not."""

    code = "reservation_not_held"


class ReservationsSplit(Conflict):
    """What the agent would keep overlaps with what it hands over (`data.kept`): hand that over too, or release it."""

    code = "reservations_split"


class HolderActive(Forbidden):
    """The holder was active lately: write to it, or wait. Only an administrator may insist, with override=true."""

    code = "holder_active"


class TooManyReservations(Limited):
    """This project has as many reservations as one may have: release some."""

    code = "too_many_reservations"
