"""SQL of programs, sql/queries/enqueue.sql: audience → queue."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from engine.facts import Facts
from engine.programs import BULK, Definition, Yearly
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
    rank: int  # 1 goes first
    status: str
    version: int
    fence: int
    why: str | None
    starts: datetime | None
    not_after: datetime | None
    enqueued_to: int
    enqueued: datetime | None
    day: date | None  # of a yearly program: whose day is, or was, taken
    stream_version: int
    epoch: int

    @property
    def prio(self) -> int:
        """Of its mail before the first attempt; what is less is claimed first. The same in entry.sql."""
        return self.class_ * 2 if self.class_ < BULK else 2 + self.rank * 2


# Microseconds by which mail to these is due before that to others.
LEAD: Mapping[str | None, int] = {"engaged": 2, "reactivated": 1}


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One subscription, on the way from the audience to the queue."""

    contact_id: int
    site_id: int | None
    state: str | None
    in_audience: bool
    clear: bool


class Newcomer(msgspec.Struct, frozen=True, gc=False):
    """A contact of whom something says that a program that is open may take them."""

    at: datetime
    contact_id: int
    via: str  # enrol, then, redirect
    site_id: int | None
    state: str | None
    round: int
    takes: bool
    clear: bool


class Standing(msgspec.Struct, frozen=True):
    """How far a program has come; its row is locked."""

    status: str
    version: int
    enqueued_to: int
    next_slot: datetime | None
    open_to: datetime | None
    open_contact: int


class Open(msgspec.Struct, frozen=True):
    """A program that takes people in while it runs, and the programs that hand theirs over to it."""

    name: str
    handing: list[int]


class Step(msgspec.Struct, frozen=True):
    """The send node that a program begins with, and how its first mails are queued."""

    program: ProgramRow
    message_id: int
    node: str
    not_after: datetime  # of the first mail; further ones come, and go, `spacing` seconds later
    due: datetime | None = None  # of the first mail; None: when the program starts
    latest: datetime | None = None  # no mail is sent after it
    spacing: float = 0.0
    life: timedelta | None = None  # of a mail, from when it is due; None: as long as its class is tried
    round: int = 0
    via: str = "enrol"


async def program_by_name(conn: Connection, name: str) -> ProgramRow:
    """InputError when there is none of this name."""
    row = await conn.fetchrow(SQL["program_by_name"], name)
    if row is None:
        raise InputError(f"program {name!r} is unknown; `mtad program list` shows which there are")
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


async def lock_enqueue(conn: Connection, program_id: int) -> Standing:
    """Lock the row against another enqueue and a pause; mail that is queued goes on."""
    row = await conn.fetchrow(SQL["lock_enqueue"], program_id)
    assert row is not None
    return Standing(*row_values(row))


async def audience_page(
    conn: Connection,
    program: ProgramRow,
    after: int,
    attributes: dict[str, list[Any]],
    node: str,
    *,
    round_: int = 0,
    days: Sequence[str] | None = None,
) -> list[Candidate]:
    """The next 5,000 subscriptions of the stream, in the order of contacts; with `days` only of whose day it is."""
    rows = await conn.fetch(
        SQL["audience_page"],
        program.stream_id,
        after,
        attributes,
        program.id,
        node,
        round_,
        program.kind == "reactivation",
        days,
    )
    return [Candidate(*row_values(row)) for row in rows]


async def horizon(conn: Connection) -> datetime:
    """The moment up to which everything that carries its transaction's time can be seen."""
    at: datetime = await conn.fetchval(SQL["horizon"])
    return at


async def open_programs(conn: Connection) -> list[Open]:
    return [Open(*row_values(row)) for row in await conn.fetch(SQL["open_programs"])]


async def newly_eligible(
    conn: Connection,
    step: Step,
    attributes: dict[str, list[Any]],
    after: tuple[datetime, int],
    before: datetime,
    *,
    handing: Sequence[int] = (),
    looks: bool = True,
    redirected: Sequence[int] = (),
) -> list[Newcomer]:
    """Up to 5,000 of whom something changed between, in order; not `looks`: only who is handed over or redirected."""
    program = step.program
    rows = await conn.fetch(
        SQL["newly_eligible"],
        program.id,
        program.stream_id,
        attributes,
        step.node,
        *after,
        program.kind == "reactivation",
        before,
        handing,
        looks,
        redirected,
    )
    return [Newcomer(*row_values(row)) for row in rows]


async def mark_open(conn: Connection, program_id: int, to: tuple[datetime, int]) -> None:
    """Remember up to where newcomers were looked at."""
    await conn.execute(SQL["mark_open"], program_id, *to)


async def mark_slot(conn: Connection, program_id: int, next_slot: datetime | None) -> None:
    """Remember when the next first mail may be due."""
    await conn.execute(SQL["mark_slot"], program_id, next_slot)


async def yearly_programs(conn: Connection) -> list[tuple[int, str, Yearly, date | None]]:
    """(id, name, when, day taken last) of those that are not under way."""
    rows = await conn.fetch(SQL["yearly_programs"])
    return [(row[0], row[1], msgspec.convert(row[2], Yearly), row[3]) for row in rows]


async def begin_day(conn: Connection, program_id: int, day: date) -> bool:
    """Have a yearly program go through its audience for this day; False: somebody else did."""
    return bool((await conn.execute(SQL["begin_day"], program_id, day)).endswith("1"))


async def audience_facts(conn: Connection, contacts: Sequence[int], step: Step) -> list[Facts]:
    """What a verdict needs, for contacts without a job."""
    program = step.program
    rows = await conn.fetch(
        SQL["audience_facts"], contacts, program.id, program.version, step.message_id, step.node, step.not_after
    )
    return [Facts(*row_values(row)) for row in rows]


async def enqueue(
    conn: Connection,
    step: Step,
    slot: int,
    contacts: Sequence[tuple[int, int | None]],
    states: Sequence[str | None] = (),
) -> int:
    """Make the first jobs of (contact, site), with entries in a series; how many were new.

    In the order of contacts, by whoever holds `lock_enqueue`: that lock is why nobody gets two. With their
    `states` the engaged are due first, by microseconds: of a limited day, they get the mails.
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
            step.due or program.starts,
            step.not_after,
            slot,
            None if program.kind == "campaign" else step.via,
            step.round,
            step.spacing,
            step.latest,
            program.prio,
            [LEAD.get(state, 0) for state in states] or None,
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
            step.round,
        )
    )


async def started(conn: Connection, name: str, slot: int) -> tuple[int, int, Definition]:
    """How many mails the start of a program has queued so far, how many contacts it has left out; its definition."""
    [(enrolled, left_out, definition)] = await conn.fetch(SQL["started"], name, slot)
    return enrolled - left_out, left_out, Definition.from_json(definition)


async def mark_enqueued(
    conn: Connection, program_id: int, to: int, *, all_in: bool, next_slot: datetime | None = None
) -> None:
    """Remember how far the enqueue has come, and when the next first mail may be due."""
    await conn.execute(SQL["mark_enqueued"], program_id, to, all_in, next_slot)


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


async def lock_spaced(conn: Connection, program_id: int) -> float:
    """Seconds between two mails by the program's max_rate, 0: it has none. With one, who waits for mail is locked."""
    spacing = float(await conn.fetchval(SQL["spacing"], program_id))
    if spacing:
        await conn.execute(SQL["lock_spaced"], program_id)
    return spacing


async def space(conn: Connection, program_id: int, spacing: float) -> None:
    """After a pause: mail that waits, who waits for a next one, and first mails to come keep to it together."""
    await mark_slot(conn, program_id, await conn.fetchval(SQL["space"], program_id, spacing))


async def waiting(conn: Connection, program_id: int) -> tuple[int, int]:
    """How many mails of a program wait, and how many people are in it."""
    (row,) = await conn.fetch(SQL["waiting"], program_id)
    return row[0], row[1]


async def finish_programs(conn: Connection) -> list[str]:
    """Mark programs with nothing left as done; their names."""
    return [row[0] for row in await conn.fetch(SQL["finish_programs"])]


async def paused_for_good(conn: Connection) -> list[str]:
    """Reactivations that were paused past their end."""
    return [row[0] for row in await conn.fetch(SQL["paused_for_good"])]


async def content_faults(conn: Connection) -> list[tuple[int, str, str, int]]:
    """(program, name, reason, how many) where one content reason fails more mails than the policy allows."""
    return [(row[0], row[1], row[2], row[3]) for row in await conn.fetch(SQL["content_faults"])]
