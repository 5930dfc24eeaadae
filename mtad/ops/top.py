"""One look at everything that delivers: workers, rates, sites, what hurts. For `mtad top`.

Workers of this machine say what they do over their sockets, the queue says what waits;
workers of other hosts are known by their heartbeats alone.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries
from mtad.ops.answers.queue import Filter, QueueState, queue_state
from mtad.ops.answers.unheard import Unheard, unheard
from mtad.ops.line import Request, ask
from mtad.ops.watch import Blame, Counts, Figures

SQL = queries("operate")

# Of a reply: "550 5.7.1". What follows may name the mail.
_CODES = 9

# A worker that does not answer within so many seconds is busy or gone; its heartbeat says which.
ANSWER = 2.0


class Host(msgspec.Struct, frozen=True):
    """A living worker, as the database knows it."""

    id: int
    host: str
    slot: int
    pid: int
    since: datetime
    silent: float  # seconds since its last beat
    sessions: int


class Rates(msgspec.Struct, frozen=True):
    """Mails a second since the look before; from the first answers of workers, since they began."""

    delivered: float = 0.0
    deferred: float = 0.0
    bounced: float = 0.0
    in_doubt: float = 0.0


class WorkerLook(msgspec.Struct, frozen=True):
    """One worker. `lag`, `claimed` and `rates` are None where it does not answer here."""

    host: Host
    lag: float | None = None  # seconds, the worst of the last ten
    claimed: int | None = None
    rates: Rates | None = None


class LaneRates(msgspec.Struct, frozen=True):
    """What the workers of this machine did by one lane."""

    site: str
    source: str
    sessions: int
    rates: Rates


class NamedBlame(msgspec.Struct, frozen=True):
    """Refusals by one lane that blame us in the same way: the last of `number`, with the name of the site."""

    at: datetime
    site: str
    source: str
    category: str
    scope: str
    reply: str
    number: int = 1


class TopState(msgspec.Struct, frozen=True):
    """Everything at the moment `at`."""

    at: datetime
    rates: Rates
    workers: list[WorkerLook]
    active: list[LaneRates]  # most delivered first
    queue: QueueState
    blamed: list[NamedBlame]  # newest first
    unheard: list[Unheard]


class Top:
    """Looks again and again; rates are over the time between two looks."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._before: dict[tuple[int, int], Figures] = {}  # by slot and pid

    async def look(self, conn: Connection, *, most: int) -> TopState:
        """Now, with the `most` sites that hurt or move most. `conn` must not be in a transaction."""
        answers = await self._answers()
        queue = await queue_state(conn, Filter(most=most))
        hosts = [Host(*row_values(row)) for row in await conn.fetch(SQL["living_workers"])]
        rates = {key: _rates(now.total, before.total, _seconds(now, before)) for key, now, before in answers}
        lanes, sessions = _by_lane(answers)
        ids = {blame.site_id for _, now, _ in answers for blame in now.blamed} | {site for site, _ in lanes}
        names: dict[int, str] = {row[0]: row[1] for row in await conn.fetch(SQL["names_of_sites"], list(ids))}
        figures = {key: now for key, now, _ in answers}
        active = [
            LaneRates(names.get(site, "?"), source, sessions[site, source], _sum(found))
            for (site, source), found in lanes.items()
        ]
        active.sort(key=lambda lane: (lane.rates.delivered, lane.rates.deferred, lane.sessions), reverse=True)
        return TopState(
            at=queue.at,
            rates=_sum(list(rates.values())),
            workers=[_worker(host, figures.get((host.slot, host.pid)), rates) for host in hosts],
            active=active[:most],
            queue=queue,
            blamed=_blamed([blame for now in figures.values() for blame in now.blamed], names)[:most],
            unheard=await unheard(conn),
        )

    async def _answers(self) -> list[tuple[tuple[int, int], Figures, Figures]]:
        """By slot and pid: what each worker says now, and what it said before, nothing when it is new."""
        found: list[tuple[tuple[int, int], Figures, Figures]] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER), contextlib.aclosing(ask(self._state, Request("figures"))) as answers:
                async for _, answer in answers:
                    now = msgspec.convert(answer, Figures, strict=False)
                    key = now.slot, now.pid
                    found.append((key, now, self._before.get(key, _nothing(now))))
        self._before = {key: now for key, now, _ in found}
        return found


def _nothing(now: Figures) -> Figures:
    return msgspec.structs.replace(now, seconds=0.0, total=Counts(), counted=[], lanes=[], blamed=[])


def _seconds(now: Figures, before: Figures) -> float:
    return max(now.seconds - before.seconds, 0.001)


def _rates(now: Counts, before: Counts, seconds: float) -> Rates:
    if before.delivered > now.delivered or before.deferred > now.deferred:
        before = Counts()  # it counts anew
    return Rates(*((getattr(now, name) - getattr(before, name)) / seconds for name in Rates.__struct_fields__))


def _sum(rates: Sequence[Rates]) -> Rates:
    return Rates(*(sum(getattr(rate, name) for rate in rates) for name in Rates.__struct_fields__))


def _by_lane(
    answers: Sequence[tuple[tuple[int, int], Figures, Figures]],
) -> tuple[dict[tuple[int, str], list[Rates]], dict[tuple[int, str], int]]:
    """By site and source: the rates of each worker, and all sessions."""
    lanes: defaultdict[tuple[int, str], list[Rates]] = defaultdict(list)
    sessions: defaultdict[tuple[int, str], int] = defaultdict(int)
    for _, now, before in answers:
        for lane in now.lanes:
            sessions[lane.site_id, lane.source] += lane.sessions
            lanes[lane.site_id, lane.source]  # listed also while nothing ends
        known = {(one.site_id, one.source): one.counts for one in before.counted}
        for one in now.counted:
            key = one.site_id, one.source
            lanes[key].append(_rates(one.counts, known.get(key, Counts()), _seconds(now, before)))
    moving = {lane: rates for lane, rates in lanes.items() if sessions[lane] or _sum(rates) != Rates()}
    return moving, sessions


def _worker(host: Host, now: Figures | None, rates: Mapping[tuple[int, int], Rates]) -> WorkerLook:
    if now is None:
        return WorkerLook(host)
    return WorkerLook(host, now.lag, now.waiting, rates[now.slot, now.pid])


def _blamed(rows: Sequence[Blame], names: Mapping[int, str]) -> list[NamedBlame]:
    """One line for what a lane was told with one category and code; the newest first."""
    found: dict[tuple[int, str, str, str], list[Blame]] = {}
    for row in sorted(rows, key=lambda row: row.at, reverse=True):
        found.setdefault((row.site_id, row.source, row.category, row.reply[:_CODES]), []).append(row)
    return [
        NamedBlame(
            last.at, names.get(last.site_id, "?"), last.source, last.category, last.scope, last.reply, len(alike)
        )
        for alike in found.values()
        for last in alike[:1]
    ]
