"""Why did somebody get a mail, or not, and what comes next?"""

from datetime import UTC, datetime

import msgspec

from engine.facts import Defer, Facts, Send, Verdict
from engine.gate import Context, slot_for, verdict
from engine.policy import StreamDefinition
from engine.programs import Definition
from mtad.base.db import Connection, Row
from mtad.base.errors import InputError
from mtad.base.sqlfiles import queries
from mtad.ops.answers.absence import Candidate
from mtad.ops.answers.delivery import deliveries
from mtad.ops.answers.person import Person, person_by_address
from mtad.ops.answers.programs import program_by_name
from mtad.ops.answers.story import Chapter, Present, chapters

SQL = queries("answers")
OPERATE = queries("operate")

# A mail that is not made yet has no end.
FAR = datetime.max.replace(tzinfo=UTC)

# Of a bigint.
MOST_ID = 2**63 - 1


class Explanation(msgspec.Struct, frozen=True):
    """One person's story, a chapter for each program."""

    address: str
    at: datetime
    programs: list[Chapter]


async def why(conn: Connection, whose: str, program: str | None = None) -> Explanation:
    """The story of an address in every program, or in one; or, by its number, of one mail. InputError: unknown.

    The gate and the lanes are asked about what is queued, as of this moment.
    `conn` must not be in a transaction.
    """
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        job = int(whose) if whose.isdecimal() else None
        address = whose
        if job is not None:
            address, program = await _owner(conn, job)
        elif program is not None:
            await program_by_name(conn, program)
        person = await person_by_address(conn, address)
        rows = await conn.fetch(SQL["definitions"], program)
        kept = await conn.fetch(SQL["definitions_of_entries"], person.contact.id)
        at: datetime = await conn.fetchval("select clock_timestamp()")
        verdicts = await _verdicts(conn, person, at)
        waits = await deliveries(conn, person.contact.id)
        slots = await _slots(conn, person, at)
    candidates = [_candidate(row) for row in rows]
    present = Present({row[0]: Definition.from_json(row[1]) for row in kept}, verdicts, waits, slots)
    return Explanation(person.contact.address, at, chapters(person, candidates, present, job))


async def _owner(conn: Connection, job: int) -> tuple[str, str]:
    """The address and the program of one mail."""
    row = await conn.fetchrow(OPERATE["contact_of_job"], min(job, MOST_ID))
    if row is None:
        raise InputError(f"job {job}: there is no such mail")
    if row[0] is None:
        raise InputError(f"job {job}: whoever it was for has been erased")
    return await conn.fetchval(OPERATE["address_of_contact"], row[0]), row[1]


def _candidate(row: Row) -> Candidate:
    name, kind, stream, status, starts, enqueued, definition = row
    return Candidate(name, kind, stream, status, starts, enqueued, Definition.from_json(definition))


async def _verdicts(conn: Connection, person: Person, at: datetime) -> dict[int, Verdict]:
    """What the gate says of each of the person's queued jobs now; of what it lets go, when that is due."""
    domains = frozenset(row.key[1:] for row in person.suppressions if row.open and row.key.startswith("@"))
    found = {}
    for row in await conn.fetch(SQL["facts_of_queued"], person.contact.id):
        *columns, program, stream, due = row.values()
        facts, policy = Facts(*columns), StreamDefinition.from_json(stream).policy
        context = Context(Definition.from_json(program), domains, policy=policy)
        said = verdict(facts, context, at)
        if isinstance(said, Send) and due > at:
            later = verdict(facts, context, due)
            # Anything else may have changed by then; when mail may go does not.
            said = later if isinstance(later, Defer) and later.zone else said
        found[facts.job_id] = said
    return found


async def _slots(conn: Connection, person: Person, at: datetime) -> dict[int, Defer]:
    """Of the entries that wait for their next mail those that will wait longer, for a time at which it may go."""
    found = {}
    for row in await conn.fetch(SQL["waiting_entries"], person.contact.id):
        entry, due, stream, definition, zone, attributes, sent, sent_on = row.values()
        policy = StreamDefinition.from_json(definition).policy
        sends = list(zip(sent or (), sent_on or (), strict=True))
        slot = slot_for(policy, stream, zone, attributes, sends, now=max(at, due), not_after=FAR)
        if isinstance(slot, Defer):
            found[entry] = slot
    return found
