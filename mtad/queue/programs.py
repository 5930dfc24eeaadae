"""SQL of programs on their way, sql/queries/enqueue.sql: audience → queue, entries from step to step."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from engine.facts import Facts
from mtad.base.db import Connection, row_values
from mtad.base.errors import InputError
from mtad.base.sqlfiles import queries

SQL = queries("enqueue")


class ProgramRow(msgspec.Struct, frozen=True):
    """A program as it stands."""

    id: int
    name: str
    kind: str
    stream_id: int
    class_: int
    status: str
    version: int
    fence: int
    why: str | None
    starts: datetime | None
    not_after: datetime | None
    enqueued_to: int
    enqueued: datetime | None
    stream_version: int
    epoch: int


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One subscription, on the way from the audience to the queue."""

    contact_id: int
    site_id: int | None
    state: str | None
    in_audience: bool
    clear: bool


class DueEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry whose wait is over."""

    id: int
    program_id: int
    version: int
    contact_id: int
    stream_id: int
    node: str
    stream_version: int
    site_id: int | None
    class_: int
    not_after: datetime | None
    heard: bool  # silence up to its due time may be concluded


class Step(msgspec.Struct, frozen=True):
    """The send node that a program begins with, and how its first mails are queued."""

    program: ProgramRow
    message_id: int
    node: str
    not_after: datetime


async def program_by_name(conn: Connection, name: str) -> ProgramRow:
    """InputError when there is none of this name."""
    row = await conn.fetchrow(SQL["program_by_name"], name)
    if row is None:
        raise InputError(f"there is no program {name!r}; `mtad program list` shows them")
    return ProgramRow(*row_values(row))


async def programs_by_status(conn: Connection, *statuses: str) -> list[str]:
    """Names, oldest first."""
    return [row[0] for row in await conn.fetch(SQL["programs_by_status"], statuses)]


async def ready_to_enqueue(conn: Connection) -> list[str]:
    """Names of programs whose start has come and whose audience is not all in the queue."""
    return [row[0] for row in await conn.fetch(SQL["ready_to_enqueue"])]


async def lock_program(conn: Connection, program_id: int) -> tuple[str, int]:
    """Lock the row against begin and everybody else; status, and up to which contact it is enqueued."""
    row = await conn.fetchrow(SQL["lock_program"], program_id)
    assert row is not None
    return row[0], row[1]


async def lock_enqueue(conn: Connection, program_id: int) -> tuple[str, int]:
    """Lock the row against another enqueue and a pause; mail that is queued goes on."""
    row = await conn.fetchrow(SQL["lock_enqueue"], program_id)
    assert row is not None
    return row[0], row[1]


async def audience_page(
    conn: Connection, program: ProgramRow, after: int, attributes: dict[str, list[Any]], node: str
) -> list[Candidate]:
    """The next 5,000 subscriptions of the stream, in the order of contacts."""
    rows = await conn.fetch(SQL["audience_page"], program.stream_id, after, attributes, program.id, node)
    return [Candidate(*row_values(row)) for row in rows]


async def audience_facts(conn: Connection, contacts: Sequence[int], step: Step) -> list[Facts]:
    """What a verdict needs, for contacts without a job."""
    program = step.program
    rows = await conn.fetch(
        SQL["audience_facts"], contacts, program.id, program.version, step.message_id, step.node, step.not_after
    )
    return [Facts(*row_values(row)) for row in rows]


async def enqueue(conn: Connection, step: Step, slot: int, contacts: Sequence[tuple[int, int | None]]) -> int:
    """Make the first jobs of (contact, site), with entries in a series; how many were new.

    In the order of contacts, by whoever holds `lock_enqueue`: that lock is why nobody gets two.
    """
    program = step.program
    return int(
        await conn.fetchval(
            SQL["enqueue"],
            [contact for contact, _ in contacts],
            [site for _, site in contacts],
            program.id,
            program.version,
            program.stream_id,
            step.message_id,
            step.node,
            program.class_,
            program.starts,
            step.not_after,
            slot,
            program.kind == "series",
        )
    )


async def leave_out(conn: Connection, step: Step, slot: int, contacts: Sequence[tuple[int, str]]) -> int:
    """Record (contact, reason): in the audience, not mailed; how many were new."""
    program = step.program
    return int(
        await conn.fetchval(
            SQL["leave_out"],
            [contact for contact, _ in contacts],
            [reason for _, reason in contacts],
            program.id,
            program.stream_id,
            step.message_id,
            step.node,
            slot,
        )
    )


async def started(conn: Connection, name: str, slot: int) -> tuple[int, int]:
    """How many mails the start of a program has queued so far, and how many contacts it has left out."""
    [(enrolled, left_out)] = await conn.fetch(SQL["started"], name, slot)
    return enrolled - left_out, left_out


async def mark_enqueued(conn: Connection, program_id: int, to: int, *, all_in: bool) -> None:
    """Remember how far the enqueue has come."""
    await conn.execute(SQL["mark_enqueued"], program_id, to, all_in)


async def analyze_queue(conn: Connection) -> None:
    """Tell the planner what the queue looks like now."""
    await conn.execute(SQL["analyze_queue"])


async def schedule(conn: Connection, program_id: int, starts: datetime) -> None:
    """From `starts` on the housekeeper enqueues it, unless somebody else did."""
    await conn.execute(SQL["schedule_program"], program_id, starts)


async def hold_jobs(conn: Connection, program_id: int) -> int:
    """Take the waiting jobs out of the due index."""
    return len(await conn.fetch(SQL["hold_jobs"], program_id))


async def unhold_jobs(conn: Connection, program_id: int, *, all_due: bool) -> list[int]:
    """Put them back; the sites they go to."""
    return [row[0] for row in await conn.fetch(SQL["unhold_jobs"], program_id, all_due)]


async def due_entries(conn: Connection) -> list[DueEntry]:
    """Up to 2,000 entries whose wait is over, of running programs."""
    return [DueEntry(*row_values(row)) for row in await conn.fetch(SQL["due_entries"])]


async def lock_gates(conn: Connection, contacts: Sequence[int]) -> None:
    """Lock the fences of these contacts, in order."""
    await conn.fetch(SQL["lock_gates"], contacts)


async def next_mails(conn: Connection, mails: Sequence[tuple[DueEntry, int, datetime]], slot: int) -> int:
    """Queue the next mail of (entry, message, not after); how many were new."""
    return int(
        await conn.fetchval(
            SQL["next_mails"],
            [entry.id for entry, _, _ in mails],
            [entry.node for entry, _, _ in mails],
            [message for _, message, _ in mails],
            [entry.site_id for entry, _, _ in mails],
            [not_after for _, _, not_after in mails],
            slot,
        )
    )


async def end_entries(conn: Connection, ends: Sequence[tuple[int, str]]) -> int:
    """End (entry, why); how many had not ended before."""
    return len(await conn.fetch(SQL["end_entries"], [x[0] for x in ends], [x[1] for x in ends]))


async def finish_programs(conn: Connection) -> list[str]:
    """Mark programs with nothing left as done; their names."""
    return [row[0] for row in await conn.fetch(SQL["finish_programs"])]


async def content_faults(conn: Connection) -> list[tuple[int, str, str, int]]:
    """(program, name, reason, how many) where one content reason fails more mails than the policy allows."""
    return [(row[0], row[1], row[2], row[3]) for row in await conn.fetch(SQL["content_faults"])]
