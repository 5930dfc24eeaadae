"""Audience → queue: start, forecast, pause, resume, cancel.

A start goes through the stream's subscriptions in pages of 5,000, each in a
transaction of its own, and remembers how far it came, so it may be interrupted
and repeated. While one page is written the next is read. The engine's gate is
asked only about those against whom something speaks; the others are queued
unasked, because the gate asks about every job again just before delivery. A
forecast asks it about everybody.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec

from engine import gate
from engine.facts import Defer, Reason, Send, Skip
from engine.programs import Definition, comes_by, held_out
from engine.service import Catalogue, set_program_status
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import InputError
from mtad.queue import programs, store
from mtad.queue.intake import COMMAND_SLOT, NOBODY, Taken, entering_facts, first_step, take_in
from mtad.queue.newcomers import birthdays

# Subscriptions a transaction, the literal limit of the query audience_page: some
# 150 ms, so that a pause does not wait long for the program's row.
PAGE = 5000


class Progress(msgspec.Struct):
    """How far a start has come."""

    queued: int = 0
    left_out: int = 0
    seen: int = 0  # subscriptions looked at


class Forecast(msgspec.Struct):
    """What the gate says about everybody now."""

    program: str
    audience: int
    send: int
    deferred: int
    skipped: dict[str, int]  # by reason
    untracked: int  # of those who would get it, now or later: elasticity will not act on them
    waits: dict[str, int]  # the deferred by reason
    comes_by: str = ""  # what brings people in later, where the start takes nobody


async def schedule(pool: Pool, name: str) -> programs.ProgramRow:
    """Have a draft sent at its start, or now when it has none; InputError in any other status."""

    async def work(conn: Connection) -> programs.ProgramRow:
        program = await programs.program_by_name(conn, name)
        status, _ = await programs.lock_program(conn, program.id)
        if status in ("paused", "done", "cancelled"):
            hint = "; `mtad program resume` goes on with it" if status == "paused" else ""
            raise InputError(f"program {name} is {status} and cannot be started{hint}")
        if status == "draft":
            await programs.schedule(conn, program.id, program.starts or datetime.now(UTC))
        return await programs.program_by_name(conn, name)

    return await in_transaction(pool, work)


async def subscriptions(pool: Pool, program: programs.ProgramRow) -> int:
    """How many subscriptions a start goes through; reads all of them, so it is for people who wait."""
    return int(await pool.fetchval("select count(*) from subscription where stream_id = $1", program.stream_id))


async def enqueue(pool: Pool, config: Config, name: str) -> AsyncIterator[Progress]:
    """Queue the whole audience of a scheduled program, page by page. Resumes where it stopped."""
    catalogue = Catalogue(pool)
    async with pool.acquire() as conn:
        program = await programs.program_by_name(conn, name)
    progress = Progress()
    yield progress
    version = 0
    # A version that is published meanwhile is what the rest of the audience gets.
    while version != program.version and program.enqueued is None:
        version = program.version
        start = Start(pool, catalogue, config, *await first_step(catalogue, config, program))
        async for _ in start.run(program.enqueued_to, progress):
            yield progress
        async with pool.acquire() as conn:
            program = await programs.program_by_name(conn, name)


class Started(msgspec.Struct, frozen=True):
    """What came of a start."""

    queued: int
    left_out: int
    comes_by: str  # what brings people in later, where the start takes nobody


async def started(pool: Pool, name: str) -> Started:
    """How many mails a start has queued, and how many contacts it left out, by whichever processes.

    A running `mtad run` takes pages of a scheduled program too, so one process's own sum is not the whole.
    """
    async with pool.acquire() as conn:
        queued, left_out, definition = await programs.started(conn, name, COMMAND_SLOT)
        return Started(queued, left_out, comes_by(definition))


class _Page(msgspec.Struct, frozen=True):
    """The subscriptions that follow contact `after`."""

    after: int
    candidates: list[programs.Candidate]

    @property
    def reaches(self) -> int:
        """The contact that the next page follows."""
        return self.candidates[-1].contact_id if self.candidates else self.after

    @property
    def last(self) -> bool:
        return len(self.candidates) < PAGE


class Start:
    """One start of one version of a program."""

    def __init__(
        self, pool: Pool, catalogue: Catalogue, config: Config, step: programs.Step, definition: Definition
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._config = config
        self._definition = definition
        self._days: list[str] | None = None
        round_ = 0
        if definition.yearly and step.program.day:
            self._days = birthdays(definition.yearly, step.program.day)
            round_ = step.program.day.year
        self._step = msgspec.structs.replace(step, round=round_)

    async def run(self, after: int, progress: Progress) -> AsyncIterator[None]:
        """Write all pages behind contact `after`; yields after each."""
        page: _Page | None = _Page(after, []) if self._waits else await self._read(after)
        while page is not None:
            first = progress.seen == 0
            page = await self._write(page, progress)
            if first or page is None:
                # Plans that were made for an empty queue read all of a full one.
                async with self._pool.acquire() as conn:
                    await programs.analyze_queue(conn)
            yield

    @property
    def _waits(self) -> bool:
        """Nobody gets it at the start: people come by themselves, or on their day."""
        return self._definition.enrol == "handed_over" or bool(self._definition.yearly and not self._step.program.day)

    async def _read(self, after: int) -> _Page:
        async with self._pool.acquire() as conn:
            return await self._page(conn, after)

    async def _page(self, conn: Connection, after: int) -> _Page:
        step, attributes = self._step, self._definition.audience.attributes
        return _Page(
            after,
            await programs.audience_page(
                conn, step.program, after, attributes, step.node, round_=step.round, days=self._days
            ),
        )

    async def _write(self, read: _Page, progress: Progress) -> _Page | None:
        """Write one page in one transaction, and meanwhile read the one behind it; None when it was the last.

        What was read is as old as the writing of one page. Who leaves meanwhile is queued, as
        who leaves just afterwards is, and the gate that is asked before delivery says no.
        """
        program = self._step.program

        async def write(conn: Connection) -> tuple[_Page | None, Taken]:
            await conn.execute("select make_partitions()")
            standing = await programs.lock_enqueue(conn, program.id)
            if standing.status not in ("scheduled", "running") or standing.version != program.version:
                return None, NOBODY
            # Another process may have queued some of it since we read.
            same = read.after == standing.enqueued_to
            page = read if same else await self._page(conn, standing.enqueued_to)
            inside = [c for c in page.candidates if c.in_audience]
            taken = await take_in(conn, self._catalogue, self._config, self._step, self._definition, inside, standing)
            await programs.mark_enqueued(conn, program.id, page.reaches, all_in=page.last, next_slot=taken.next_slot)
            return page, taken

        (page, taken), ahead = await asyncio.gather(
            in_transaction(self._pool, write),
            _nothing() if read.last else self._read(read.reaches),
        )
        if page is None:
            return None
        progress.seen += len(page.candidates)
        progress.queued += taken.queued
        progress.left_out += taken.left_out
        if page.last:
            return None
        return ahead if page is read else await self._read(page.reaches)


async def _nothing() -> None:
    return None


async def forecast(pool: Pool, config: Config, name: str) -> Forecast:
    """The gate run dry over the whole audience, in one snapshot; nothing is written.

    Of a program with a date it is about those whose day is today.
    """
    catalogue = Catalogue(pool)
    async with pool.acquire() as conn:
        program = await programs.program_by_name(conn, name)
    now = datetime.now(UTC)
    step, definition = await first_step(catalogue, config, program)
    yearly = definition.yearly
    days = birthdays(yearly, now.astimezone(ZoneInfo(yearly.zone)).date()) if yearly else None
    stream = catalogue.stream(program.stream_id, program.stream_version).definition
    context = gate.Context(definition, catalogue.suppressed_domains, catalogue.suspended, stream.policy)
    result = Forecast(name, 0, 0, 0, {}, 0, {}, comes_by(definition))
    skipped: Counter[str] = Counter()
    waits: Counter[str] = Counter()
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        after, size = 0, 0 if definition.enrol == "handed_over" else PAGE
        while size == PAGE:
            page = await programs.audience_page(
                conn, program, after, definition.audience.attributes, step.node, days=days
            )
            size = len(page)
            after = page[-1].contact_id if page else after
            inside = [c.contact_id for c in page if c.in_audience]
            for facts in await entering_facts(conn, inside, step):
                result.audience += 1
                verdict = gate.verdict(facts, context, now)
                measured = (facts.tracking or stream.tracking) == "full"
                match verdict:
                    case Send() | Defer() if held_out(program.id, facts.contact_id, definition.holdout):
                        skipped[Reason.HOLDOUT] += 1
                    case Send():
                        result.send += 1
                        result.untracked += not measured
                    case Defer(_, reason):
                        result.deferred += 1
                        result.untracked += not measured
                        waits[reason] += 1
                    case Skip(reason):
                        skipped[reason] += 1
    result.skipped = dict(sorted(skipped.items()))
    result.waits = dict(sorted(waits.items()))
    return result


async def pause(pool: Pool, name: str, why: str) -> int:
    """Nothing of it begins from the commit on; how many waiting mails were held."""

    async def work(conn: Connection) -> int:
        program = await programs.program_by_name(conn, name)
        status, _ = await programs.lock_program(conn, program.id)
        if status not in ("scheduled", "running"):
            raise InputError(f"program {name} is {status}, not running")
        await set_program_status(conn, program.id, "paused", why)
        return await programs.hold_jobs(conn, program.id)

    return await in_transaction(pool, work)


async def resume(pool: Pool, name: str) -> None:
    """Go on, at the program's max_rate; what is past its not_after by now is not sent."""

    async def work(conn: Connection) -> None:
        program = await programs.program_by_name(conn, name)
        status, _ = await programs.lock_program(conn, program.id)
        if status != "paused":
            raise InputError(f"program {name} is {status}, not paused")
        await set_program_status(conn, program.id, "running" if program.enqueued else "scheduled", None)
        spacing = await programs.lock_spaced(conn, program.id)  # entries are locked before jobs
        sites = await programs.unhold_jobs(conn, program.id, all_due=False)
        if spacing:
            await programs.space(conn, program.id, spacing)
        await store.wake_sites(conn, sorted(sites))

    await in_transaction(pool, work)


class Waiting(msgspec.Struct, frozen=True):
    """What the end of a program concerns."""

    mails: int
    people: int  # on their way through it


async def waiting(pool: Pool, name: str) -> Waiting:
    """What `cancel` would end; InputError as there."""
    async with pool.acquire() as conn:
        program = await programs.program_by_name(conn, name)
        _require_not_over(name, program.status)
        return Waiting(*await programs.waiting(conn, program.id))


def _require_not_over(name: str, status: str) -> None:
    if status in ("done", "cancelled"):
        raise InputError(f"program {name} is {status} already")


async def cancel(pool: Pool, name: str, why: str) -> None:
    """For good: entries end, and the gate ends every waiting mail as cancelled."""

    async def work(conn: Connection) -> None:
        program = await programs.program_by_name(conn, name)
        status, _ = await programs.lock_program(conn, program.id)
        _require_not_over(name, status)
        await set_program_status(conn, program.id, "cancelled", why)
        sites = await programs.unhold_jobs(conn, program.id, all_due=True)
        await store.wake_sites(conn, sorted(sites))

    await in_transaction(pool, work)


async def pause_all(pool: Pool, why: str) -> list[str]:
    """Pause whatever runs; the names."""
    async with pool.acquire() as conn:
        names = await programs.programs_by_status(conn, "scheduled", "running")
    for name in names:
        await pause(pool, name, why)
    return names
