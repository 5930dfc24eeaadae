"""Random histories of a contact on a stream, made from numbers so that they shrink well, and one that is told."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from engine.policy import Policy
from engine.replay import NEVER, Fact, Logged, Replayed, corrections, forward, replay
from engine.states import Event, Kind, Row, new_row

START = datetime(2026, 1, 1, 9, tzinfo=UTC)
STEP = timedelta(hours=6)
STEPS = 300

# Short spans, so that forty facts go through every phase.
POLICY = Policy(
    attempts=3, window=2 * 86400.0, days=20, days_unclear=40, cool_downs=(3 * 86400.0, 6 * 86400.0),
    points_last=15 * 86400.0,
)  # fmt: skip

RULES = [(NEVER, POLICY)]

# What stands here more than once comes more often.
KINDS = (
    *(Kind.DELIVERED,) * 10,
    *(Kind.SIGN,) * 4,
    *(Kind.ENTERS_REACTIVATION,) * 12,
    *(Kind.REACTIVATION_SILENT,) * 8,
    *(Kind.VEILED,) * 2,
    *(Kind.SERIES_SILENT,) * 2,
    Kind.ENTERS_SERIES,
    Kind.ENTERS_CAMPAIGN,
    Kind.DELIVERED_UNMEASURED,
    Kind.TRANSACTIONAL,
    Kind.MACHINE,
    Kind.REACTIVATION_STOPPED,
    Kind.OUT_OF_OFFICE,
    Kind.UNSERVED,
    Kind.UNSUBSCRIBED,
    Kind.BREAK,
    Kind.COMPLAINED,
    Kind.HARD_BOUNCE,
    Kind.SUBSCRIBED_AGAIN,
    *(Kind.WITHDRAWN,) * 2,
)
JOBS = 12
NUMBERS = len(KINDS) * STEPS * JOBS

# The end of a way names its beginning.
_BEGINS = {
    Kind.SERIES_SILENT: Kind.ENTERS_SERIES,
    Kind.REACTIVATION_SILENT: Kind.ENTERS_REACTIVATION,
    Kind.REACTIVATION_STOPPED: Kind.ENTERS_REACTIVATION,
}


def base() -> Row:
    return new_row(START)


def history(numbers: Sequence[int]) -> list[Fact]:
    """A fact for each number; numbers differ."""
    drawn = [(number, *_drawn(number)) for number in numbers]
    began = {begins: sorted(at for _, kind, at, _ in drawn if kind is begins) for begins in {*_BEGINS.values()}}
    facts = []
    for number, kind, at, job in drawn:
        entered = None
        if kind in _BEGINS:
            before = [moment for moment in began[_BEGINS[kind]] if moment <= at]
            entered = before[-1] if before else START
        facts.append(
            Fact(
                id=f"{kind.name} {number}",
                event=Event(
                    kind,
                    at,
                    f"fact {number}",
                    points=10 if job % 2 else 5,
                    series_runs=job > 8,
                    until=at + job * STEP if kind in (Kind.UNSERVED, Kind.OUT_OF_OFFICE) else None,
                    reactivation=kind is Kind.SIGN and job % 3 == 0,
                ),
                once=f"job {job}" if kind is Kind.SIGN and job else "",
                entered=entered,
            )
        )
    return facts


def _drawn(number: int) -> tuple[Kind, datetime, int]:
    number, kind = divmod(number, len(KINDS))
    job, step = divmod(number, STEPS)
    return KINDS[kind], START + step * STEP, job


class History:
    """A contact on a stream, new at START, to which facts are told as they arrive.

    Promise: after any sequence of `fold`, `row` is that of `replay` over the facts that
    stand, up to the latest watermark, and `applied(log)` is its log.
    """

    def __init__(self) -> None:
        self._facts: dict[str, Fact] = {}
        self._void: set[str] = set()
        self._done = Replayed(base())
        self._heard = NEVER
        self.log: list[Logged] = []

    @property
    def row(self) -> Row:
        return self._done.row

    def fold(self, facts: Iterable[Fact], heard: datetime, void: Iterable[str] = ()) -> list[Logged]:
        """Take in facts, and the ids of those that were none (a hit judged anew, a late bounce); new rows of the log.

        A sweep is a fold without facts. A watermark that is behind an earlier one counts as that.
        """
        self._heard = max(self._heard, heard)
        gone = {id_ for id_ in void if id_ not in self._void}
        self._void |= gone
        fresh = {fact.id: fact for fact in facts if fact.id not in self._facts}
        self._facts |= fresh
        ordered = sorted((fact for fact in fresh.values() if fact.id not in self._void), key=lambda fact: fact.place)
        late = bool(ordered) and ordered[0].place <= self._done.last
        silent_since = self._done.held is not None and self._done.held <= self._heard
        if late or silent_since or not gone.isdisjoint(self._facts):
            standing = [fact for fact in self._facts.values() if fact.id not in self._void]
            done = replay(standing, RULES, self._heard, base())
        else:
            done = forward(self._done, ordered, POLICY, self._heard)
        new = list(corrections(self._done.log, done.log))
        self._done = done
        self.log += new
        return new


def applied(log: Iterable[Logged]) -> list[Logged]:
    """The transitions of a log that stand, in the order in which they happened."""
    standing: set[Logged] = set()
    for logged in log:
        made = msgspec.structs.replace(logged, taken_back=False)
        if logged.taken_back:
            standing.discard(made)
        else:
            standing.add(made)
    return sorted(standing, key=lambda logged: logged.place)
