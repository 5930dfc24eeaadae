"""The state of one contact on one stream: a table, and the function that reads it. Pure.

Rows are told facts in order of their time. What a cell does is data, so the table in
engine/README.md can be compared with it, and every pair of state and event is decided.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

import msgspec

from engine.policy import Policy


class State(StrEnum):
    """As stored; New is stored as active without `first_sent`, so that a start writes nothing per contact."""

    NEW = "new"
    ACTIVE = "active"
    ENGAGED = "engaged"
    REACTIVATED = "reactivated"
    COOLING = "cooling"
    TRYING = "trying"
    RESTING = "resting"


class Kind(StrEnum):
    """What can happen to a contact on a stream."""

    ENTERS_SERIES = "enters a series"
    ENTERS_CAMPAIGN = "enters a campaign"
    DELIVERED = "mail delivered (bulk, triggered)"
    SIGN = "first human open, or first human click, of a mail"
    SIGN_AGAIN = "the same open or click again; another link of the same mail"
    MACHINE = "machine, scanner, veiled, voided burst"
    SERIES_SILENT = "series ended silent"
    SERIES_ANSWERED = "series ended, signs but below the threshold"
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complaint"
    HARD_BOUNCE = "hard bounce"


class Act(StrEnum):
    """What an event does to a row, beside its state."""

    FIRST_SENT = "F"  # first_sent = time
    ROUND = "R"  # score 0, points count from now
    ROUND_UNLESS_RUNNING = "R°"  # R, unless another series of the stream runs for this contact
    POINTS = "P"  # the points, if the sign lies within the round; and L
    SIGN = "L"  # last_sign = time
    FIRST_CYCLE = "C0"  # cycle 0, no cool-down
    COOL_DOWN = "C1"  # cycle 1, cool_until = time + first cool-down, score 0


class Cell(msgspec.Struct, frozen=True):
    """What happens in one state at one event. Empty: nothing."""

    acts: tuple[Act, ...] = ()
    to: State | None = None
    engages: bool = False  # → Engaged when the score reaches the threshold
    refused: str = ""  # the gate does not let it come to this; the reason it gives
    impossible: bool = False


class Row(msgspec.Struct, frozen=True):
    """A contact on a stream: what the machine needs of the table engagement."""

    state: State
    since: datetime
    score: int
    round_from: datetime
    last_sign: datetime | None = None
    first_sent: datetime | None = None
    cycle: int = 0
    cool_until: datetime | None = None


class Event(msgspec.Struct, frozen=True):
    """One fact about a contact on a stream."""

    kind: Kind
    at: datetime
    fact: str  # for people: 'click on link 3 of nudge-2, job 17'
    points: int = 0  # of a SIGN
    series_runs: bool = False  # of ENTERS_SERIES: another series of the stream runs


class Transition(msgspec.Struct, frozen=True):
    """One row of the log. `from_state` None is New."""

    from_state: State | None
    to_state: State
    why: str  # entered, threshold, came_back, silent, unsubscribed, complained
    fact: str
    at: datetime


_NOTHING = Cell()
_NEVER = Cell(impossible=True)
_ADD = Cell((Act.POINTS,))
_ADD_TO_THRESHOLD = Cell((Act.POINTS,), engages=True)
_HEARD = Cell((Act.SIGN,))
_BACK = Cell((Act.ROUND, Act.POINTS, Act.FIRST_CYCLE), State.REACTIVATED)
_BACK_AGAIN = Cell((Act.ROUND, Act.SIGN, Act.FIRST_CYCLE), State.REACTIVATED)
_REFUSED = (Cell(refused="cooling"), Cell(refused="in_reactivation"), Cell(refused="resting"))
_FALLS_BACK = Cell((), State.COOLING)
_QUIET = (_NOTHING,) * 7


def _row(*cells: Cell) -> dict[State, Cell]:
    return dict(zip(State, cells, strict=True))


# engine/README.md shows this table; the columns are the states in their order.
TABLE: dict[Kind, dict[State, Cell]] = {
    Kind.ENTERS_SERIES: _row(
        Cell((Act.ROUND,)),
        Cell((Act.ROUND_UNLESS_RUNNING,)),
        Cell((Act.ROUND,), State.ACTIVE),
        Cell((), State.ACTIVE),
        *_REFUSED,
    ),
    Kind.ENTERS_CAMPAIGN: _row(Cell((Act.ROUND,)), _NOTHING, _NOTHING, Cell((), State.ACTIVE), *_REFUSED),
    Kind.DELIVERED: _row(Cell((Act.ROUND, Act.FIRST_SENT), State.ACTIVE), *(_NOTHING,) * 6),
    Kind.SIGN: _row(_HEARD, _ADD_TO_THRESHOLD, _ADD, _ADD_TO_THRESHOLD, _BACK, _BACK, _BACK),
    Kind.SIGN_AGAIN: _row(_HEARD, _HEARD, _HEARD, _HEARD, _BACK_AGAIN, _BACK_AGAIN, _BACK_AGAIN),
    Kind.MACHINE: _row(*_QUIET),
    Kind.SERIES_SILENT: _row(_NEVER, Cell((Act.COOL_DOWN,), State.COOLING), *(_NOTHING,) * 5),
    Kind.SERIES_ANSWERED: _row(_NEVER, *(_NOTHING,) * 6),
    Kind.UNSUBSCRIBED: _row(*(_NOTHING,) * 5, _FALLS_BACK, _NOTHING),
    Kind.COMPLAINED: _row(*(_NOTHING,) * 5, _FALLS_BACK, _NOTHING),
    Kind.HARD_BOUNCE: _row(*_QUIET),
}

_WHY = {
    Kind.ENTERS_SERIES: "entered",
    Kind.ENTERS_CAMPAIGN: "entered",
    Kind.SIGN: "came_back",
    Kind.SIGN_AGAIN: "came_back",
    Kind.SERIES_SILENT: "silent",
    Kind.UNSUBSCRIBED: "unsubscribed",
    Kind.COMPLAINED: "complained",
}


def new_row(at: datetime) -> Row:
    """Somebody of whom nothing is known yet."""
    return Row(State.NEW, at, 0, at)


def apply(row: Row, event: Event, policy: Policy) -> tuple[Row, Transition | None]:
    """The row after the event, and the transition to log if the state changed.

    Leaving New is not logged: it says what `first_sent` says, and would cost a log row
    per contact. Impossible pairs change nothing.
    """
    cell = TABLE[event.kind][row.state]
    after = row
    for act in cell.acts:
        after = _acted(after, act, event, policy)
    to, why = cell.to, _WHY.get(event.kind, "")
    if cell.engages and after.score >= policy.threshold:
        to, why = State.ENGAGED, "threshold"
    if to is None:
        return after, None
    after = msgspec.structs.replace(after, state=to, since=event.at)
    if row.state is State.NEW:
        return after, None
    return after, Transition(row.state, to, why, event.fact, event.at)


def _acted(row: Row, act: Act, event: Event, policy: Policy) -> Row:
    changed: dict[str, object] = {}
    match act:
        case Act.FIRST_SENT:
            changed = {"first_sent": event.at}
        case Act.ROUND:
            changed = {"score": 0, "round_from": event.at}
        case Act.ROUND_UNLESS_RUNNING:
            changed = {} if event.series_runs else {"score": 0, "round_from": event.at}
        case Act.POINTS:
            counted = event.points if event.at >= row.round_from else 0
            changed = {"score": row.score + counted, "last_sign": max(row.last_sign or event.at, event.at)}
        case Act.SIGN:
            changed = {"last_sign": max(row.last_sign or event.at, event.at)}
        case Act.FIRST_CYCLE:
            changed = {"cycle": 0, "cool_until": None}
        case Act.COOL_DOWN:
            changed = {"cycle": 1, "cool_until": event.at + timedelta(seconds=policy.cool_downs[0]), "score": 0}
        case _:
            assert_never(act)
    return msgspec.structs.replace(row, **changed)
