"""What other tables say about a contact on a stream, as the facts of a replay. Pure.

The ids of facts of one moment stand in the order in which they mean something: entering,
the mail, what of it cannot be seen, the answer to it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from engine.free import Free, free_fact
from engine.policy import StreamDefinition
from engine.replay import Fact, Logged, corrections, holding
from engine.score import Hit, Key, sign
from engine.states import Event, Kind, State, Transition

# What an event without a mail is called in the table `event`.
HAPPENED = {
    "unsubscribe": Kind.UNSUBSCRIBED,
    "break": Kind.BREAK,
    "complaint": Kind.COMPLAINED,
    "out_of_office": Kind.OUT_OF_OFFICE,
    "subscribe": Kind.SUBSCRIBED_AGAIN,
    "undo": Kind.SUBSCRIBED_AGAIN,
    "end_break": Kind.SUBSCRIBED_AGAIN,
}


Versions = Sequence[tuple[datetime, StreamDefinition]]  # of a stream, from when on: the first from NEVER


class Mail(msgspec.Struct, frozen=True, gc=False):
    """A mail that arrived, or (`delivered` false) may have: only an answer proves it."""

    job_id: int
    delivered: bool
    at: datetime
    class_: int
    pixel: bool


class Way(msgspec.Struct, frozen=True, gc=False):
    """An entry of a series or a reactivation."""

    id: int
    program: str
    kind: str
    entered: datetime
    ended: datetime | None
    why: str | None
    when_silent: str | None
    series_runs: bool  # another entry on the stream ran when it began


class Happened(msgspec.Struct, frozen=True, gc=False):
    """An event without a mail."""

    id: UUID
    kind: str
    at: datetime
    until: datetime | None


class Entered(msgspec.Struct, frozen=True, gc=False):
    """A row of the log."""

    id: int
    transition: Transition
    takes_back: int | None


class Past(msgspec.Struct):
    """All that is known of a contact on a stream since some moment."""

    key: Key
    mode: str | None = None  # the contact's own; None: what the stream says
    mails: list[Mail] = msgspec.field(default_factory=list)
    veiled: list[tuple[UUID, datetime]] = msgspec.field(default_factory=list)
    hits: list[Hit] = msgspec.field(default_factory=list)
    ways: list[Way] = msgspec.field(default_factory=list)
    events: list[Happened] = msgspec.field(default_factory=list)
    free: list[Free] = msgspec.field(default_factory=list)
    log: list[Entered] = msgspec.field(default_factory=list)
    answered: set[str] = msgspec.field(default_factory=set)


def facts_of(past: Past, versions: Versions, outages: Sequence[tuple[datetime, datetime]]) -> Iterator[Fact]:
    """Every fact of the past, in no order; `outages`: when nobody listened, or too little was heard."""

    def measured(at: datetime) -> bool:
        return (past.mode or holding(versions, at).tracking) == "full"

    yield from mails_told(past.mails, past.hits, measured)
    yield from veils_told((id_, at) for id_, at in past.veiled if measured(at))
    yield from (sign(hit, holding(versions, hit.at).policy) for hit in past.hits if measured(hit.at))
    for free in past.free:
        if measured(free.at) and (fact := free_fact(past.key, free, holding(versions, free.at).policy)):
            yield fact
    for way in past.ways:
        yield from _way(way)
    for event in past.events:
        happened = Event(HAPPENED[event.kind], event.at, event.kind, until=event.until)
        yield Fact(id=f"told {event.id}", event=happened)
    for since, until in outages:
        yield Fact(
            id=f"outage {since.isoformat()} {until.isoformat()}",
            event=Event(Kind.UNSERVED, since, "outage", until=until),
        )
    yield from _campaigns(past)


def mails_told(
    mails: Iterable[Mail], hits: Iterable[Hit] = (), measured: Callable[[datetime], bool] = lambda _: True
) -> Iterator[Fact]:
    """Deliveries. An answer proves one, for clocks differ and a mail in doubt is settled late."""
    proven: dict[int, datetime] = {}
    for hit in hits:
        proven[hit.job_id] = min(hit.at, proven.get(hit.job_id, hit.at))
    for mail in mails:
        if mail.class_ == 0 or not (mail.delivered or mail.job_id in proven):
            continue
        at = min(mail.at, proven.get(mail.job_id, mail.at))
        kind = Kind.DELIVERED if measured(at) else Kind.DELIVERED_UNMEASURED
        yield Fact(id=f"mail {mail.job_id}", event=Event(kind, at, f"job {mail.job_id}"))
        if kind is Kind.DELIVERED and not mail.pixel:
            yield Fact(id=f"mail {mail.job_id} unseen", event=Event(Kind.VEILED, at, f"job {mail.job_id}"))


def veils_told(veiled: Iterable[tuple[UUID, datetime]]) -> Iterator[Fact]:
    """What Apple's proxy fetched."""
    for id_, at in veiled:
        yield Fact(id=f"veil {id_}", event=Event(Kind.VEILED, at, "fetched by a privacy proxy"))


def _way(way: Way) -> Iterator[Fact]:
    reactivation, silent = way.kind == "reactivation", way.why == "silent"
    kind = Kind.ENTERS_REACTIVATION if reactivation else Kind.ENTERS_SERIES
    yield Fact(id=f"enter {way.id}", event=Event(kind, way.entered, "enrolment", series_runs=way.series_runs))
    if way.ended is None or way.why is None:
        return
    if reactivation:
        # Who came back is not trying any more, and it means nothing; unless the sign turns out to be none.
        over = Kind.REACTIVATION_SILENT if silent else Kind.REACTIVATION_STOPPED
        yield ended(over, way.id, way.program, way.entered, way.ended)
    elif silent and way.when_silent == "inactive":
        yield ended(Kind.SERIES_SILENT, way.id, way.program, way.entered, way.ended)


def ended(kind: Kind, entry: int, program: str, entered: datetime, at: datetime) -> Fact:
    """The end of a series or a reactivation."""
    return Fact(id=f"end {entry}", event=Event(kind, at, f"end of {program}, entry {entry}"), entered=entered)


def _campaigns(past: Past) -> Iterator[Fact]:
    """Campaigns have no entries: that one was entered is known where it made somebody Active again."""
    series = {way.entered for way in past.ways}
    for one in past.log:
        move = one.transition
        if move.why == "entered" and one.takes_back is None and move.at not in series:
            yield Fact(id=f"enter campaign {one.id}", event=Event(Kind.ENTERS_CAMPAIGN, move.at, move.fact))


def corrected(past: Past, after: Sequence[Logged]) -> list[tuple[Transition, int | None]]:
    """What to add to the log, with the row that it takes back, so that it says what a replay gave.

    Rows are the same if they went the same way at the same time for the same reason.
    """
    gone = {one.takes_back for one in past.log}
    had = {_bare(one.transition): one for one in past.log if one.takes_back is None and one.id not in gone}
    has = {_bare(logged.transition): logged.transition for logged in after}
    rows: list[tuple[Transition, int | None]] = []
    for row in corrections(sorted(had, key=lambda row: row.place), list(has)):
        if row.taken_back:
            one = had[msgspec.structs.replace(row, taken_back=False)]
            rows.append((one.transition, one.id))
        else:
            rows.append((has[row], None))
    return rows


def _bare(move: Transition) -> Logged:
    return Logged((move.at, ""), msgspec.structs.replace(move, fact=""))


def came_from(value: str | None) -> State | None:
    """The state of a row of the log; None is New."""
    return None if value is None else State(value)
