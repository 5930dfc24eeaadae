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
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import msgspec

from engine import gate
from engine.facts import Defer, Send, Skip
from engine.programs import Definition
from engine.service import Catalogue, enter, set_program_status
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import InputError
from mtad.queue import programs, store

# Tally rows are one a worker slot; commands and the housekeeper share this one.
COMMAND_SLOT = -1

# Subscriptions a transaction, the literal limit of the query audience_page: some
# 150 ms, so that a pause does not wait long for the program's row.
PAGE = 5000


class Progress(msgspec.Struct):
    """How far a start has come."""

    queued: int = 0
    left_out: int = 0
    seen: int = 0  # subscriptions looked at
    total: int = 0


class Forecast(msgspec.Struct):
    """What the gate says about everybody now."""

    program: str
    audience: int
    send: int
    deferred: int
    skipped: dict[str, int]  # by reason
    untracked: int  # elasticity will not act on them


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


async def enqueue(pool: Pool, config: Config, name: str) -> AsyncIterator[Progress]:
    """Queue the whole audience of a scheduled program, page by page. Resumes where it stopped."""
    catalogue = Catalogue(pool)
    async with pool.acquire() as conn:
        program = await programs.program_by_name(conn, name)
        total = await conn.fetchval("select count(*) from subscription where stream_id = $1", program.stream_id)
    step, definition = await _first_step(catalogue, config, program)
    progress = Progress(total=total)
    yield progress
    if program.enqueued is not None:
        return
    page: _Page | None = await _read_page(pool, step, definition, program.enqueued_to)
    while page is not None:
        first = progress.seen == 0
        page = await _enqueue_page(pool, catalogue, step, definition, page, progress)
        if first or page is None:
            # Plans that were made for an empty queue read all of a full one.
            async with pool.acquire() as conn:
                await programs.analyze_queue(conn)
        yield progress


async def started(pool: Pool, name: str) -> tuple[int, int]:
    """How many mails a start has queued, and how many contacts it left out, by whichever processes.

    A running `mtad run` takes pages of a scheduled program too, so one process's own sum is not the whole.
    """
    async with pool.acquire() as conn:
        return await programs.started(conn, name, COMMAND_SLOT)


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


async def _read_page(pool: Pool, step: programs.Step, definition: Definition, after: int) -> _Page:
    async with pool.acquire() as conn:
        return await _page(conn, step, definition, after)


async def _page(conn: Connection, step: programs.Step, definition: Definition, after: int) -> _Page:
    attributes = definition.audience.attributes
    return _Page(after, await programs.audience_page(conn, step.program, after, attributes, step.node))


async def _enqueue_page(
    pool: Pool, catalogue: Catalogue, step: programs.Step, definition: Definition, read: _Page, progress: Progress
) -> _Page | None:
    """Write one page in one transaction, and meanwhile read the one behind it; None when it was the last.

    What was read is as old as the writing of one page. Who leaves meanwhile is queued, as
    who leaves just afterwards is, and the gate that is asked before delivery says no.
    """
    program = step.program

    async def write(conn: Connection) -> tuple[_Page | None, int, int]:
        await conn.execute("select make_partitions()")
        status, after = await programs.lock_enqueue(conn, program.id)
        if status not in ("scheduled", "running"):
            return None, 0, 0
        # Another process may have queued some of it since we read.
        page = read if read.after == after else await _page(conn, step, definition, after)
        inside = [c for c in page.candidates if c.in_audience]
        reasons = await _reasons(conn, catalogue, step, definition, [c.contact_id for c in inside if not c.clear])
        queued = [c for c in inside if c.contact_id not in reasons] if reasons else inside
        new = out = 0
        if queued:
            entering = [c.contact_id for c in queued if definition.kind == "series" or c.state == "reactivated"]
            if entering:
                await enter(conn, program.stream_id, entering, datetime.now(UTC), series=definition.kind == "series")
            new = await programs.enqueue(conn, step, COMMAND_SLOT, [(c.contact_id, c.site_id) for c in queued])
        if reasons:
            out = await programs.leave_out(conn, step, COMMAND_SLOT, list(reasons.items()))
        await programs.mark_enqueued(conn, program.id, page.reaches, all_in=page.last)
        await store.wake_sites(conn, sorted({c.site_id for c in queued if c.site_id is not None}))
        return page, new, out

    (page, new, out), ahead = await asyncio.gather(
        in_transaction(pool, write),
        _nothing() if read.last else _read_page(pool, step, definition, read.reaches),
    )
    if page is None:
        return None
    progress.seen += len(page.candidates)
    progress.queued += new
    progress.left_out += out
    if page.last:
        return None
    return ahead if page is read else await _read_page(pool, step, definition, page.reaches)


async def _nothing() -> None:
    return None


async def _reasons(
    conn: Connection,
    catalogue: Catalogue,
    step: programs.Step,
    definition: Definition,
    contacts: Sequence[int],
) -> dict[int, str]:
    """Why those contacts get no mail that do not; the gate's words."""
    if not contacts:
        return {}
    facts = await programs.audience_facts(conn, contacts, step)
    context = gate.Context(definition, catalogue.suppressed_domains)
    now = datetime.now(UTC)
    verdicts = {f.contact_id: gate.verdict(f, context, now) for f in facts}
    return {contact: v.reason for contact, v in verdicts.items() if isinstance(v, Skip)}


async def _first_step(
    catalogue: Catalogue, config: Config, program: programs.ProgramRow
) -> tuple[programs.Step, Definition]:
    await catalogue.need([(program.id, program.version)], [(program.stream_id, program.stream_version)], program.epoch)
    held = catalogue.program(program.id, program.version)
    definition = held.definition
    starts = program.starts or datetime.now(UTC)
    oldest = starts + config.max_age(program.class_)
    not_after = min(oldest, program.not_after) if program.not_after else oldest
    program = msgspec.structs.replace(program, starts=starts)
    return programs.Step(program, held.messages[definition.first], definition.first, not_after), definition


async def forecast(pool: Pool, config: Config, name: str) -> Forecast:
    """The gate run dry over the whole audience, in one snapshot; nothing is written."""
    catalogue = Catalogue(pool)
    async with pool.acquire() as conn:
        program = await programs.program_by_name(conn, name)
    step, definition = await _first_step(catalogue, config, program)
    context = gate.Context(definition, catalogue.suppressed_domains)
    stream_mode = catalogue.stream(program.stream_id, program.stream_version).definition.tracking
    result = Forecast(name, 0, 0, 0, {}, 0)
    skipped: Counter[str] = Counter()
    now = datetime.now(UTC)
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        after, size = 0, PAGE
        while size == PAGE:
            page = await programs.audience_page(conn, program, after, definition.audience.attributes, step.node)
            size = len(page)
            after = page[-1].contact_id if page else after
            inside = [c.contact_id for c in page if c.in_audience]
            for facts in await programs.audience_facts(conn, inside, step):
                result.audience += 1
                match gate.verdict(facts, context, now):
                    case Send():
                        result.send += 1
                        result.untracked += "full" not in (facts.tracking or stream_mode)
                    case Defer():
                        result.deferred += 1
                    case Skip(reason):
                        skipped[reason] += 1
    result.skipped = dict(sorted(skipped.items()))
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
    """Go on; what is past its not_after by now is not sent."""

    async def work(conn: Connection) -> None:
        program = await programs.program_by_name(conn, name)
        status, _ = await programs.lock_program(conn, program.id)
        if status != "paused":
            raise InputError(f"program {name} is {status}, not paused")
        await set_program_status(conn, program.id, "running" if program.enqueued else "scheduled", None)
        sites = await programs.unhold_jobs(conn, program.id, all_due=False)
        await store.wake_sites(conn, sorted(sites))

    await in_transaction(pool, work)


async def cancel(pool: Pool, name: str, why: str) -> None:
    """For good: entries end, and the gate ends every waiting mail as cancelled."""

    async def work(conn: Connection) -> None:
        program = await programs.program_by_name(conn, name)
        status, _ = await programs.lock_program(conn, program.id)
        if status in ("done", "cancelled"):
            raise InputError(f"program {name} is {status} already")
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
