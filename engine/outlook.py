"""What time alone will do next to somebody on a stream, for people who ask. Pure."""

from datetime import datetime

import msgspec

from engine.policy import Policy
from engine.states import Kind, Row, State
from engine.timers import next_timer


class Standing(msgspec.Struct, frozen=True):
    """What decides of a row: its columns under their names."""

    state: str  # as stored, or new
    since: datetime
    round_from: datetime
    score: int
    last_sign: datetime | None
    first_sent: datetime | None
    cycle: int
    cool_until: datetime | None
    window_until: datetime | None
    veiled: bool
    ignored: int
    unclear: int
    told: datetime  # time of the last fact or timer in it


class Coming(msgspec.Struct, frozen=True):
    """What happens at that time if nothing is heard; `what` as it will stand in the log."""

    at: datetime
    what: str
    pauses: bool  # makes the contact Inactive


def coming(standing: Standing, policy: Policy) -> Coming | None:
    """The next timer of a row; None: nothing happens by itself."""
    row = Row(
        State(standing.state),
        standing.since,
        standing.score,
        standing.round_from,
        standing.last_sign,
        standing.first_sent,
        standing.cycle,
        standing.cool_until,
        standing.window_until,
        standing.veiled,
        standing.ignored,
        standing.unclear,
    )
    timer = next_timer(row, policy, standing.told)
    return Coming(timer.at, timer.fact, timer.kind in (Kind.WINDOW_LAST, Kind.DAYS_OVER)) if timer else None
