"""The state of one contact on one stream: a table, and the function that reads it. Pure.

Rows are told events in order of their time. What a cell does is data, so the table in
engine/README.md is made from it, and every pair of state and event is decided.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum

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
    ENTERS_REACTIVATION = "enters a reactivation"
    DELIVERED = "mail delivered (bulk, triggered)"
    DELIVERED_UNMEASURED = "the same to a contact who may not be measured"
    TRANSACTIONAL = "transactional mail delivered"
    VEILED = "veiled sign; mail without a pixel delivered"
    SIGN = "first human open, or first human click, of a mail; page of high intent; event with points"
    SIGN_AGAIN = "the same open or click again; another link of the same mail; human event without points"
    MACHINE = "machine, scanner, HEAD, prefetch, voided burst"
    WINDOW_IGNORED = "window closes, not veiled, attempts are left"
    WINDOW_LAST = "window closes, not veiled, the last attempt"
    WINDOW_UNCLEAR = "window closes, veiled"
    DAYS_OVER = "too many days since the last sign"
    SERIES_SILENT = "series ended silent"
    SERIES_ANSWERED = "series ended, signs but below the threshold"
    COOL_DOWN_OVER = "cool-down over"
    REACTIVATION_SILENT = "reactivation ended silent, a cool-down is left"
    REACTIVATION_LAST = "reactivation ended silent, none left"
    REACTIVATION_STOPPED = "reactivation cancelled, or paused past its end"
    OUT_OF_OFFICE = "out-of-office reply"
    UNSERVED = "our tracking was not served"
    UNSUBSCRIBED = "unsubscribed"
    BREAK = "break asked for"
    COMPLAINED = "complaint"
    HARD_BOUNCE = "hard bounce"
    SUBSCRIBED_AGAIN = "subscribed again"
    WITHDRAWN = "tracking consent withdrawn"


class Act(StrEnum):
    """What an event does to a row, beside its state."""

    FIRST_SENT = "F"
    ROUND = "R"
    ROUND_UNLESS_RUNNING = "R°"
    POINTS = "P"
    SIGN = "L"
    WINDOW = "W"
    VEIL = "V"
    HOLD = "H"
    PROLONG = "T"
    DROP = "D"
    IGNORED = "I"
    UNCLEAR = "U"
    FORGET = "Z"
    FIRST_CYCLE = "C0"
    COOL_DOWN = "C1"
    NEXT_COOL_DOWN = "C+"
    COOLED = "C="


class Cell(msgspec.Struct, frozen=True):
    """What happens in one state at one event. Empty: nothing."""

    acts: tuple[Act, ...] = ()
    to: State | None = None
    engages: bool = False  # → Engaged when the score reaches the threshold
    refused: str = ""  # the gate does not let it come to this; the reason it gives
    cooled: bool = False  # only if the cool-down is over, else refused
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
    window_until: datetime | None = None  # of the open window
    veiled: bool = False  # the open window can only close as unclear
    ignored: int = 0  # closed attempts since the last sign
    unclear: int = 0


class Event(msgspec.Struct, frozen=True):
    """One fact about a contact on a stream, or a timer."""

    kind: Kind
    at: datetime
    fact: str  # for people: 'click on link 3 of nudge-2, job 17'
    points: int = 0  # of a SIGN
    series_runs: bool = False  # of ENTERS_SERIES: another series of the stream runs
    until: datetime | None = None  # of OUT_OF_OFFICE: the date given; of UNSERVED: its end; of DELIVERED within: too
    reactivation: bool = False  # of a sign: it answers a mail of a reactivation


class Transition(msgspec.Struct, frozen=True):
    """One row of the log. `from_state` None is New."""

    from_state: State | None
    to_state: State
    why: str  # one of WHY, 'threshold' or 'reactivated'
    fact: str
    at: datetime


# An out-of-office reply that names no date.
USUAL_ABSENCE = timedelta(days=14)

_NOTHING = Cell()
_NEVER = Cell(impossible=True)
_ADD = Cell((Act.POINTS,))
_ADD_TO_THRESHOLD = Cell((Act.POINTS,), engages=True)
_HEARD = Cell((Act.SIGN,))
_BACK = Cell((Act.ROUND, Act.POINTS, Act.FIRST_CYCLE), State.REACTIVATED)
_BACK_AGAIN = Cell((Act.ROUND, Act.SIGN, Act.FIRST_CYCLE), State.REACTIVATED)
_REFUSED = (Cell(refused="cooling"), Cell(refused="in_reactivation"), Cell(refused="resting"))
_PAUSED = Cell((Act.COOL_DOWN,), State.COOLING)
_DROP = Cell((Act.DROP,))
_QUIET = (_NOTHING,) * 7
_NO_PERMISSION = (_NOTHING, *(_DROP,) * 3, _NOTHING, Cell((), State.COOLING), _NOTHING)


def _row(*cells: Cell) -> dict[State, Cell]:
    return dict(zip(State, cells, strict=True))


def _while_mailed(cell: Cell, *, new: Cell, inactive: Cell) -> dict[State, Cell]:
    return _row(new, *(cell,) * 3, *(inactive,) * 3)


def _only_trying(cell: Cell) -> dict[State, Cell]:
    return _row(*(_NOTHING,) * 5, cell, _NOTHING)


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
    Kind.ENTERS_REACTIVATION: _row(
        Cell(refused="not_inactive"),
        *(Cell(refused="came_back"),) * 3,
        Cell((), State.TRYING, cooled=True, refused="cooling"),
        _NOTHING,
        Cell(refused="resting"),
    ),
    Kind.DELIVERED: _while_mailed(
        Cell((Act.WINDOW,)), new=Cell((Act.ROUND, Act.FIRST_SENT, Act.WINDOW), State.ACTIVE), inactive=_NOTHING
    ),
    Kind.DELIVERED_UNMEASURED: _while_mailed(
        _NOTHING, new=Cell((Act.ROUND, Act.FIRST_SENT), State.ACTIVE), inactive=_NOTHING
    ),
    Kind.TRANSACTIONAL: _row(*_QUIET),
    Kind.VEILED: _while_mailed(Cell((Act.VEIL,)), new=_NOTHING, inactive=_NOTHING),
    Kind.SIGN: _row(_HEARD, _ADD_TO_THRESHOLD, _ADD, _ADD_TO_THRESHOLD, _BACK, _BACK, _BACK),
    Kind.SIGN_AGAIN: _while_mailed(_HEARD, new=_HEARD, inactive=_BACK_AGAIN),
    Kind.MACHINE: _row(*_QUIET),
    Kind.WINDOW_IGNORED: _while_mailed(Cell((Act.IGNORED,)), new=_NEVER, inactive=_NEVER),
    Kind.WINDOW_LAST: _while_mailed(_PAUSED, new=_NEVER, inactive=_NEVER),
    Kind.WINDOW_UNCLEAR: _while_mailed(Cell((Act.UNCLEAR,)), new=_NEVER, inactive=_NEVER),
    Kind.DAYS_OVER: _while_mailed(_PAUSED, new=_NEVER, inactive=_NEVER),
    Kind.SERIES_SILENT: _row(_NEVER, _PAUSED, *(_NOTHING,) * 5),
    Kind.SERIES_ANSWERED: _row(_NEVER, *(_NOTHING,) * 6),
    Kind.COOL_DOWN_OVER: _row(*(_NEVER,) * 4, _NOTHING, _NEVER, _NEVER),
    Kind.REACTIVATION_SILENT: _only_trying(Cell((Act.NEXT_COOL_DOWN,), State.COOLING)),
    Kind.REACTIVATION_LAST: _only_trying(Cell((), State.RESTING)),
    Kind.REACTIVATION_STOPPED: _only_trying(Cell((Act.COOLED,), State.COOLING)),
    Kind.OUT_OF_OFFICE: _while_mailed(Cell((Act.HOLD,)), new=_NOTHING, inactive=_NOTHING),
    Kind.UNSERVED: _while_mailed(Cell((Act.PROLONG,)), new=_NOTHING, inactive=_NOTHING),
    Kind.UNSUBSCRIBED: _row(*_NO_PERMISSION),
    Kind.BREAK: _while_mailed(_DROP, new=_NOTHING, inactive=_NOTHING),
    Kind.COMPLAINED: _row(*_NO_PERMISSION),
    Kind.HARD_BOUNCE: _row(*_QUIET),
    Kind.SUBSCRIBED_AGAIN: _while_mailed(_HEARD, new=_HEARD, inactive=_BACK_AGAIN),
    Kind.WITHDRAWN: _while_mailed(
        Cell((Act.FORGET,)),
        new=Cell((Act.FORGET,)),
        inactive=Cell((Act.FORGET, Act.FIRST_CYCLE), State.ACTIVE),
    ),
}

# Why a transition at an event is logged. That to Engaged is always 'threshold'; a return by an
# answer to a reactivation is 'reactivated', so that its success is not flattered by the others.
WHY = {
    Kind.ENTERS_SERIES: "entered",
    Kind.ENTERS_CAMPAIGN: "entered",
    Kind.ENTERS_REACTIVATION: "reactivation",
    Kind.SIGN: "came_back",
    Kind.SIGN_AGAIN: "came_back",
    Kind.SUBSCRIBED_AGAIN: "came_back",
    Kind.WINDOW_LAST: "attempts",
    Kind.DAYS_OVER: "days",
    Kind.SERIES_SILENT: "silent",
    Kind.REACTIVATION_SILENT: "silent",
    Kind.REACTIVATION_LAST: "silent",
    Kind.REACTIVATION_STOPPED: "stopped",
    Kind.UNSUBSCRIBED: "unsubscribed",
    Kind.COMPLAINED: "complained",
    Kind.WITHDRAWN: "not_measured",
}


def new_row(at: datetime) -> Row:
    """Somebody of whom nothing is known yet."""
    return Row(State.NEW, at, 0, at)


def apply(row: Row, event: Event, policy: Policy) -> tuple[Row, Transition | None]:
    """The row after the event, and the transition to log if the state changed.

    Leaving New is not logged: it says what `first_sent` says, and would cost a log row
    per contact. What is impossible or refused changes nothing.
    """
    cell = TABLE[event.kind][row.state]
    if cell.cooled and (row.cool_until is None or row.cool_until > event.at):
        return row, None
    after = row
    for act in cell.acts:
        after = msgspec.structs.replace(after, **_ACTS[act](after, event, policy))
    to, why = cell.to, WHY.get(event.kind, "")
    if cell.engages and after.score >= policy.threshold:
        to, why = State.ENGAGED, "threshold"
    if to is State.REACTIVATED and event.reactivation and row.state is State.TRYING:
        why = "reactivated"
    if to is None:
        return after, None
    after = msgspec.structs.replace(after, state=to, since=event.at)
    if row.state is State.NEW:
        return after, None
    return after, Transition(row.state, to, why, event.fact, event.at)


Changes = dict[str, object]

# A window that is closed or dropped.
_SHUT: Changes = {"window_until": None, "veiled": False}
# Nothing was ignored so far.
_CLEAN: Changes = {"ignored": 0, "unclear": 0, **_SHUT}


def _heard(row: Row, event: Event, _policy: Policy) -> Changes:
    return {"last_sign": max(row.last_sign or event.at, event.at), **_CLEAN}


def _points(row: Row, event: Event, policy: Policy) -> Changes:
    counted = event.points if event.at >= row.round_from else 0
    return {"score": row.score + counted, **_heard(row, event, policy)}


def _round(_row: Row, event: Event, _policy: Policy) -> Changes:
    return {"score": 0, "round_from": event.at}


def _window(row: Row, event: Event, policy: Policy) -> Changes:
    if row.window_until:
        return {}
    # Where nobody could have answered, the window begins when they could.
    begins = max(event.at, event.until or event.at)
    return {"window_until": begins + timedelta(seconds=policy.window), "veiled": False}


def _hold(row: Row, event: Event, _policy: Policy) -> Changes:
    held = event.until or event.at + USUAL_ABSENCE
    return {"window_until": max(row.window_until, held)} if row.window_until else {}


def _prolonged(row: Row, event: Event, _policy: Policy) -> Changes:
    silent = (event.until or event.at) - event.at
    return {"window_until": row.window_until + silent} if row.window_until else {}


def _cooling(row: Row, event: Event, policy: Policy) -> Changes:
    return {"cycle": row.cycle + 1, "cool_until": event.at + _cool_down(row.cycle + 1, policy)}


def _cool_down(cycle: int, policy: Policy) -> timedelta:
    return timedelta(seconds=policy.cool_downs[min(cycle, len(policy.cool_downs)) - 1])


_ACTS: dict[Act, Callable[[Row, Event, Policy], Changes]] = {
    Act.FIRST_SENT: lambda _row, event, _policy: {"first_sent": event.at},
    Act.ROUND: _round,
    Act.ROUND_UNLESS_RUNNING: lambda row, event, policy: {} if event.series_runs else _round(row, event, policy),
    Act.POINTS: _points,
    Act.SIGN: _heard,
    Act.WINDOW: _window,
    Act.VEIL: lambda row, _event, _policy: {"veiled": row.window_until is not None},
    Act.HOLD: _hold,
    Act.PROLONG: _prolonged,
    Act.DROP: lambda _row, _event, _policy: _SHUT,
    Act.IGNORED: lambda row, _event, _policy: {"ignored": row.ignored + 1, **_SHUT},
    Act.UNCLEAR: lambda row, _event, _policy: {"unclear": row.unclear + 1, **_SHUT},
    Act.FORGET: lambda _row, _event, _policy: {"score": 0, **_CLEAN},
    Act.FIRST_CYCLE: lambda _row, _event, _policy: {"cycle": 0, "cool_until": None},
    Act.COOL_DOWN: lambda _row, event, policy: {
        "cycle": 1,
        "cool_until": event.at + _cool_down(1, policy),
        "score": 0,
        **_CLEAN,
    },
    Act.NEXT_COOL_DOWN: _cooling,
    Act.COOLED: lambda _row, event, _policy: {"cool_until": event.at},
}
