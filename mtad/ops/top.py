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
from mtad.ops.line import Request, ask
from mtad.ops.watch import Blame, Counts, Figures

SQL = queries("operate")

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


class SiteRates(msgspec.Struct, frozen=True):
    """What the workers of this machine did for one site."""

    site: str
    sessions: int
    rates: Rates


class NamedBlame(msgspec.Struct, frozen=True):
    """A refusal that blames us, with the name of the site."""

    at: datetime
    site: str
    category: str
    scope: str
    reply: str


class TopState(msgspec.Struct, frozen=True):
    """Everything at the moment `at`."""

    at: datetime
    rates: Rates
    workers: list[WorkerLook]
    active: list[SiteRates]  # most delivered first
    queue: QueueState
    blamed: list[NamedBlame]  # newest first


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
        sites, sessions = _by_site(answers)
        ids = {blame.site_id for _, now, _ in answers for blame in now.blamed} | sites.keys()
        names: dict[int, str] = {row[0]: row[1] for row in await conn.fetch(SQL["names_of_sites"], list(ids))}
        figures = {key: now for key, now, _ in answers}
        active = [SiteRates(names.get(site, "?"), sessions[site], _sum(found)) for site, found in sites.items()]
        active.sort(key=lambda site: (site.rates.delivered, site.rates.deferred, site.sessions), reverse=True)
        return TopState(
            at=queue.at,
            rates=_sum(list(rates.values())),
            workers=[_worker(host, figures.get((host.slot, host.pid)), rates) for host in hosts],
            active=active[:most],
            queue=queue,
            blamed=_blamed([blame for now in figures.values() for blame in now.blamed], names)[:most],
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
    return msgspec.structs.replace(now, seconds=0.0, total=Counts(), sites={}, lanes=[], blamed=[])


def _seconds(now: Figures, before: Figures) -> float:
    return max(now.seconds - before.seconds, 0.001)


def _rates(now: Counts, before: Counts, seconds: float) -> Rates:
    if before.delivered > now.delivered or before.deferred > now.deferred:
        before = Counts()  # it counts anew
    return Rates(*((getattr(now, name) - getattr(before, name)) / seconds for name in Rates.__struct_fields__))


def _sum(rates: Sequence[Rates]) -> Rates:
    return Rates(*(sum(getattr(rate, name) for rate in rates) for name in Rates.__struct_fields__))


def _by_site(
    answers: Sequence[tuple[tuple[int, int], Figures, Figures]],
) -> tuple[dict[int, list[Rates]], dict[int, int]]:
    """By site: the rates of each worker, and all sessions."""
    sites: defaultdict[int, list[Rates]] = defaultdict(list)
    sessions: defaultdict[int, int] = defaultdict(int)
    for _, now, before in answers:
        for lane in now.lanes:
            sessions[lane.site_id] += lane.sessions
            sites[lane.site_id]  # listed also while nothing ends
        for site, counts in now.sites.items():
            sites[site].append(_rates(counts, before.sites.get(site, Counts()), _seconds(now, before)))
    moving = {site: rates for site, rates in sites.items() if sessions[site] or _sum(rates) != Rates()}
    return moving, sessions


def _worker(host: Host, now: Figures | None, rates: Mapping[tuple[int, int], Rates]) -> WorkerLook:
    if now is None:
        return WorkerLook(host)
    return WorkerLook(host, now.lag, now.waiting, rates[now.slot, now.pid])


def _blamed(rows: Sequence[Blame], names: Mapping[int, str]) -> list[NamedBlame]:
    newest = sorted(rows, key=lambda row: row.at, reverse=True)
    return [NamedBlame(row.at, names.get(row.site_id, "?"), row.category, row.scope, row.reply) for row in newest]
