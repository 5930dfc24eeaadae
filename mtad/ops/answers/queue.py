"""What waits, site by site, what hurts most first, at any depth of the queue.

A queue that fits into a sample is counted. Of a deeper one a sample of its pages says how
the sites compare; the sites that are shown are then counted by index, up to 10,000 jobs
each. What is more than that is an estimate, and says so.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from mtad.base.db import Connection, Row, row_values
from mtad.base.errors import InputError
from mtad.base.source import OTHER
from mtad.base.sqlfiles import queries
from mtad.ops.answers.programs import program_by_name
from mtad.queue.limits import LaneLimit, limits
from mtad.queue.suspensions import Suspension, suspensions

SQL = queries("operate")

# Pages of the table that a sample reads, some 120,000 jobs: 1 % of a queue is known to 3 %.
SAMPLE_PAGES = 4000

# What the queries count up to, their literal limits: beyond, the sample has to say.
COUNTED, OF_PROGRAM = 10_000, 50_000


class Count(msgspec.Struct, frozen=True):
    """How many; `exact` False: estimated from a sample."""

    n: int
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.n:,}" if self.exact else f"~{self.n:,}"


class LaneState(msgspec.Struct, frozen=True):
    """One way to a site, as begin would find it now."""

    id: int
    site_id: int
    site: str
    source: str
    rate: float  # messages a second
    burst: float
    tokens: float
    sessions: int  # held by all workers
    session_limit: int
    closed_until: datetime | None
    closed_why: str | None
    provider: str = OTHER
    warmup_allowed: int | None = None  # mails to the provider today; None: it is established, or was not asked yet
    warmup_used: int | None = None
    suspended: tuple[Suspension, ...] = ()
    limits: tuple[LaneLimit, ...] = ()  # set for a while, over what is configured


class Unresolved(msgspec.Struct, frozen=True):
    """A domain whose mail waits to be told where to go."""

    domain: str
    waiting: int
    trouble: str | None  # why there is no answer; None: it was not asked for yet


class SiteQueue(msgspec.Struct, frozen=True):
    """What waits for one site. `next_due`: when its first waiting mail is, or was, due; None: it has none."""

    site: str
    waiting: Count
    due: Count
    deferred: Count  # of those that wait: tried before
    held: Count  # of paused programs
    claimed: int  # by workers, those begun among them
    begun: int
    in_doubt: int
    next_due: datetime | None
    late: float  # seconds since then; 0.0 when it is to come
    lanes: tuple[LaneState, ...]
    last_reply: str | None


class QueueState(msgspec.Struct, frozen=True):
    """The queue at the moment `at`. Totals are over all sites that were asked for; `hidden` sites are not listed."""

    at: datetime
    sampled: float | None  # percent of the table; None: everything was counted
    waiting: Count
    due: Count
    deferred: Count
    held: Count
    claimed: int
    in_doubt: int
    unresolved: int  # of those that wait: their domain has no site yet; counted up to 10,000
    unresolved_domains: tuple[Unresolved, ...]  # those with the most mail
    hidden: int
    sites: tuple[SiteQueue, ...]
    suspended: tuple[Suspension, ...]


class Filter(msgspec.Struct, frozen=True):
    """Which part of the queue; '' is all of it."""

    site: str = ""  # part of a site's name, or a domain that goes there
    program: str = ""
    closed: bool = False  # only sites where nothing begins now
    most: int = 20  # sites listed


class Sample(msgspec.Struct):
    """By site, scaled up: waiting, due, deferred, held."""

    counts: dict[int | None, tuple[int, int, int, int]]
    heads: dict[int | None, datetime | None]  # when the first that waits is due
    percent: float | None

    @property
    def exact(self) -> bool:
        return self.percent is None

    def total(self, column: int, sites: Collection[int] | None) -> Count:
        return Count(
            sum(row[column] for site, row in self.counts.items() if sites is None or site in sites), self.exact
        )


async def queue_state(conn: Connection, wanted: Filter) -> QueueState:
    """What waits where. `conn` must not be in a transaction. InputError: no such site or program."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        at: datetime = await conn.fetchval("select now()")
        program = (await program_by_name(conn, wanted.program)).id if wanted.program else None
        only = await _sites(conn, wanted)
        sample = await _sample(conn, program)
        busy = {row[0]: (row[1], row[2], row[3]) for row in await conn.fetch(SQL["busy_sites"], program)}
        heads = sample.heads
        if program is None:
            heads = {row[0]: row[1] for row in await conn.fetch(SQL["heads"])}
        known = {site for site in sample.counts.keys() | busy.keys() | heads.keys() if site is not None}
        asked = known if only is None else known & only
        pain = {site: _pain(sample, busy, heads, site, at) for site in asked}
        shown = sorted(asked, key=lambda site: (pain[site], -site), reverse=True)[: wanted.most]
        nowhere: list[Unresolved] = []
        if only is None and program is None:
            nowhere = [Unresolved(*row_values(row)) for row in await conn.fetch(SQL["unlabelled"])]
        held_back = await suspensions(conn)
        names = {row[0]: row[1] for row in await conn.fetch(SQL["names_of_sites"], shown)}
        lanes = await lanes_of_sites(conn, shown, held_back)
        counted = {}
        if program is None:
            counted = {row[0]: row for row in await conn.fetch(SQL["counted_sites"], shown)}
    return QueueState(
        at=at,
        sampled=sample.percent,
        waiting=sample.total(0, only),
        due=sample.total(1, only),
        deferred=sample.total(2, only),
        held=sample.total(3, only),
        claimed=sum(row[0] for site, row in busy.items() if only is None or site in only),
        in_doubt=sum(row[2] for site, row in busy.items() if only is None or site in only),
        unresolved=sum(domain.waiting for domain in nowhere),
        unresolved_domains=tuple(nowhere[: wanted.most]),
        hidden=len(asked) - len(shown),
        sites=tuple(
            _site(names[site], sample.counts.get(site, (0, 0, 0, 0)), busy.get(site, (0, 0, 0)), heads.get(site),
                  counted.get(site), lanes.get(site, ()), exact=sample.exact, at=at)
            for site in shown
        ),
        suspended=tuple(held_back if only is None else _about(held_back, lanes)),
    )  # fmt: skip


async def queue_sample(conn: Connection) -> tuple[datetime, Sample]:
    """Now, and what waits then by site (None: not resolved yet)."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return await conn.fetchval("select now()"), await _sample(conn, None)


def _about(held_back: Iterable[Suspension], lanes: Mapping[int, tuple[LaneState, ...]]) -> Iterable[Suspension]:
    """Those that hold mail to the sites of these lanes."""
    ids = {row.id for its in lanes.values() for lane in its for row in lane.suspended}
    return (row for row in held_back if row.id in ids or row.kind in ("domain", "campaign"))


async def lanes_of_sites(
    conn: Connection, sites: Sequence[int], held_back: Iterable[Suspension]
) -> dict[int, tuple[LaneState, ...]]:
    """By site: its lanes, with the suspensions and limits that hold for each."""
    limited = await limits(conn)
    found: dict[int, tuple[LaneState, ...]] = {}
    for row in await conn.fetch(SQL["lanes_of_sites"], sites):
        lane = LaneState(*row_values(row))
        keys = {("source", lane.source), ("site", lane.site), ("lane", f"{lane.source}/{lane.site}")}
        lane = msgspec.structs.replace(
            lane,
            suspended=tuple(row for row in held_back if (row.kind, row.key) in keys),
            limits=tuple(row for row in limited if row.lane_id == lane.id),
        )
        found[lane.site_id] = (*found.get(lane.site_id, ()), lane)
    return found


async def _sites(conn: Connection, wanted: Filter) -> set[int] | None:
    """The sites that were asked for; None: all."""
    only: set[int] | None = None
    if wanted.site:
        only = {row[0] for row in await conn.fetch(SQL["sites_like"], wanted.site)}
        if not only:
            raise InputError(
                f"site {wanted.site!r}: no site has this in its name, and no domain that is known is so named"
            )
    if wanted.closed:
        closed = {row[0] for row in await conn.fetch(SQL["closed_sites"])}
        only = closed if only is None else only & closed
    return only


async def _sample(conn: Connection, program: int | None) -> Sample:
    """Counts by site: of everything, or of a sample where that is too much."""
    if program is not None:
        rows = await conn.fetch(SQL["program_sites"], program)
        if sum(row[1] + row[4] for row in rows) < OF_PROGRAM:
            return _sampled(rows, 100.0)
    percent: float = await conn.fetchval(SQL["sample_percent"], SAMPLE_PAGES)
    rows = await conn.fetch(SQL["sampled_sites"], percent, program)
    return _sampled(rows, percent)


def _sampled(rows: Iterable[Row], percent: float) -> Sample:
    sample = Sample({}, {}, None if percent == 100 else percent)
    for site, *counts, head in rows:
        waiting, due, deferred, held = (round(n * 100 / percent) for n in counts)
        sample.counts[site] = (waiting, due, deferred, held)
        sample.heads[site] = head
    return sample


def _pain(
    sample: Sample,
    busy: dict[int, tuple[int, int, int]],
    heads: dict[int | None, datetime | None],
    site: int,
    at: datetime,
) -> tuple[float, int, int]:
    """How much a site hurts: seconds that its due mail has waited, then what was deferred, then what waits."""
    waiting, due, deferred, _ = sample.counts.get(site, (0, 0, 0, 0))
    claimed, _, in_doubt = busy.get(site, (0, 0, 0))
    late = _late(heads.get(site), at)
    # A site that the sample missed has at least the mail at its head.
    return max(due, late > 0) * (late + 1), deferred + in_doubt, waiting + claimed


def _late(due: datetime | None, at: datetime) -> float:
    return max(0.0, (at - due).total_seconds()) if due else 0.0


def _site(
    name: str, sampled: tuple[int, int, int, int], busy: tuple[int, int, int], head: datetime | None,
    counted: Row | None, lanes: tuple[LaneState, ...], *, exact: bool, at: datetime,
) -> SiteQueue:  # fmt: skip
    """One line: what was counted, and beyond that what the sample says."""
    waiting, due, deferred, held = (Count(n, exact) for n in sampled)
    if counted and not exact:
        waiting, due, deferred = (
            _best(n, guess.n) for n, guess in zip(counted[1:4], (waiting, due, deferred), strict=True)
        )
    return SiteQueue(
        site=name,
        waiting=waiting,
        due=due,
        deferred=deferred,
        held=held,
        claimed=busy[0],
        begun=busy[1],
        in_doubt=busy[2],
        next_due=head,
        late=_late(head, at),
        lanes=lanes,
        last_reply=counted[4] if counted else None,
    )


def _best(counted: int, estimate: int) -> Count:
    """What was counted, unless that is where counting ends."""
    return Count(counted) if counted < COUNTED else Count(max(estimate, counted), exact=False)
