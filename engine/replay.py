"""The state of a contact on a stream as a replay of its facts in the order of their time. Pure.

Plain counters fail: a click that is read before its own mail is settled would make the
person who clicked Inactive. So a row is what `replay` makes of the set of facts. Facts
that are younger than all before go `forward` from what is done; with `corrections` the log
comes to the same, whatever the order and the batches in which they arrive.

Silence is concluded up to the watermark only: the moment up to which every tracker's
journal has been read. Facts that are younger count at once, timers wait for it.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from engine.policy import Policy
from engine.states import Event, Kind, Row, State, Transition, apply
from engine.timers import cool_until, next_at, next_timer

# Before every fact: nothing has been read so far.
NEVER = datetime.min.replace(tzinfo=UTC)

T = TypeVar("T")

Rules = Sequence[tuple[datetime, Policy]]  # from when which hold: the first from NEVER on, then by time

Place = tuple[datetime, str]  # time and id of a fact; a timer stands before all facts of its moment


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One event with what a replay needs to decide which row of the table it means.

    SIGN stands for SIGN_AGAIN too, SERIES_SILENT for SERIES_ANSWERED, REACTIVATION_SILENT
    for REACTIVATION_LAST: which one it is depends on what was before it.
    """

    id: str  # the same fact read twice has the same
    event: Event
    once: str = ""  # of a SIGN: what earns points once, 'open 17'; '': it earns none
    entered: datetime | None = None  # of the end of a series or reactivation: when its entry began

    @property
    def place(self) -> Place:
        return self.event.at, self.id


class Logged(msgspec.Struct, frozen=True):
    """A row of the transition log: it happened, or turned out not to have happened."""

    place: Place
    transition: Transition
    taken_back: bool = False


class Earned(msgspec.Struct, frozen=True):
    """A sign that was the first of its kind on its mail, and the points of it that counted."""

    fact: Fact
    points: int


class Replayed(msgspec.Struct, frozen=True):
    """What a set of facts comes to."""

    row: Row
    log: tuple[Logged, ...] = ()
    answered: frozenset[str] = frozenset()
    earned: tuple[Earned, ...] = ()
    last: Place = (NEVER, "")  # the fact or timer that was applied last
    held: datetime | None = None  # the first timer that had to wait although a younger fact was applied
    deaf_until: datetime = NEVER  # the end of the latest span in which our tracking was not served


def replay(
    facts: Iterable[Fact],
    rules: Rules,
    heard: datetime,
    base: Row,
    *,
    since: datetime = NEVER,
    answered: Iterable[str] = (),
) -> Replayed:
    """Facts in any order, without doubles → row and log; `heard`: the watermark.

    Facts and timers go by the rules of their time. A cool-down that runs when others begin
    ends when they say, but never later.

    `base` is where a replay begins: New, an import or what an operator set, at `since`, and
    `answered` what had earned its points by then. No fact is older.
    """
    done = Replayed(base, last=(since, ""), answered=frozenset(answered))
    rest = sorted(facts, key=lambda fact: fact.place)
    ends: list[datetime | None] = [*(begin for begin, _ in rules[1:]), None]
    for (begin, policy), end in zip(rules, ends, strict=True):
        if begin > since and done.row.state is State.COOLING:
            done = msgspec.structs.replace(
                done, row=msgspec.structs.replace(done.row, cool_until=cool_until(done.row, policy))
            )
        now = rest if end is None else [fact for fact in rest if fact.event.at < end]
        done = forward(done, now, policy, heard if end is None else min(heard, end))
        rest = rest[len(now) :]
    return done


def holding(spans: Sequence[tuple[datetime, T]], at: datetime) -> T:
    """What held then, of what holds from when on."""
    return next(one for begin, one in reversed(spans) if begin <= at)


def forward(done: Replayed, facts: Sequence[Fact], policy: Policy, heard: datetime) -> Replayed:
    """Apply facts, in order, that all lie behind what is done, and the timers among them up to the watermark."""
    row, last, held, deaf_until = done.row, done.last, done.held, done.deaf_until
    log, answered, earned = list(done.log), set(done.answered), list(done.earned)

    def run(event: Event, id_: str) -> None:
        nonlocal row, last
        place = (event.at, id_)
        last = max(last, place)
        row, moved = apply(row, event, policy)
        if moved:
            log.append(Logged(place, moved))

    def run_timers(until: datetime) -> None:
        nonlocal held
        while (
            (at := next_at(row, policy, last[0])) is not None
            and at <= until
            and (timer := _heard(next_timer(row, policy, last[0]), deaf_until))
            and timer.at <= until
        ):
            if timer.at > heard:
                held = min(held or timer.at, timer.at)
                return
            run(timer, "")

    for fact in facts:
        run_timers(fact.event.at)
        meant = _meant(fact, row, answered, policy, deaf_until)
        if policy.points_last and row.score and meant.kind is Kind.SIGN:
            latest = ((one.fact.event.at, one.points) for one in reversed(earned))
            row = lapsed(row, latest, meant.at, policy)
        before = row
        run(meant, fact.id)
        if fact.once and fact.once not in answered:
            answered.add(fact.once)
            # With a return a round begins.
            earned.append(Earned(fact, row.score - (before.score if row.round_from == before.round_from else 0)))
        if fact.event.kind is Kind.UNSERVED:
            deaf_until = max(deaf_until, fact.event.until or NEVER)
    run_timers(heard)
    return Replayed(row, tuple(log), frozenset(answered), tuple(earned), last, held, deaf_until)


def lapsed(row: Row, earned: Iterable[tuple[datetime, int]], at: datetime, policy: Policy) -> Row:
    """The row without the points that do not last until `at`; `earned`: when how many, the latest first.

    The latest points are what the score is made of, for rounds and forgetting drop all that
    were before. What is not among `earned` was there when the round began, at the latest.
    """
    since = at - timedelta(seconds=policy.points_last)
    left, lasting = row.score, 0
    for when, points in earned:
        counted = min(points, left)
        left -= counted
        lasting += counted if when > since else 0
    return msgspec.structs.replace(row, score=lasting + (left if row.round_from > since else 0))


def _heard(timer: Event | None, deaf_until: datetime) -> Event | None:
    """Silence is not concluded in the middle of a span in which we could not have heard."""
    if timer is None or timer.at >= deaf_until or timer.kind is Kind.COOL_DOWN_OVER:
        return timer
    return msgspec.structs.replace(timer, at=deaf_until)


def _meant(fact: Fact, row: Row, answered: Collection[str], policy: Policy, deaf_until: datetime) -> Event:
    """The event of the table that a fact is, after what came before it."""
    kind = fact.event.kind
    began = fact.entered or fact.event.at
    match kind:
        case Kind.DELIVERED if fact.event.at < deaf_until:
            return msgspec.structs.replace(fact.event, until=deaf_until)
        case Kind.UNSERVED if fact.event.until and fact.event.at < deaf_until:
            # Only what two spans do not share.
            more = max(fact.event.until, deaf_until) - deaf_until
            return msgspec.structs.replace(fact.event, until=fact.event.at + more)
        case Kind.SIGN if not fact.once or fact.once in answered:
            kind = Kind.SIGN_AGAIN
        case Kind.SERIES_SILENT if row.last_sign is not None and row.last_sign >= began:
            kind = Kind.SERIES_ANSWERED
        case Kind.REACTIVATION_SILENT | Kind.REACTIVATION_STOPPED if row.since != began:
            kind = Kind.SERIES_ANSWERED  # of an entry that is not the one which tries now
        case Kind.REACTIVATION_SILENT if row.cycle >= len(policy.cool_downs):
            kind = Kind.REACTIVATION_LAST
        case _:
            return fact.event
    return msgspec.structs.replace(fact.event, kind=kind)


def corrections(before: Sequence[Logged], after: Sequence[Logged]) -> Iterator[Logged]:
    """Rows to add to a log that says `before`, so that it says `after`: the youngest is taken back first."""
    had, has = set(before), set(after)
    for logged in reversed(before):
        if logged not in has:
            yield msgspec.structs.replace(logged, taken_back=True)
    for logged in after:
        if logged not in had:
            yield logged
