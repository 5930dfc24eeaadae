"""People into a program, in the transaction of whoever holds `lock_enqueue` of it.

Who is against it by the gate's words, or held out to compare with, gets a ledger row with
the reason; whom the program refuses as Inactive may be redirected, once, in the same
transaction.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from engine import gate
from engine.facts import Facts, Reason, Skip
from engine.programs import Definition, held_out, life_of
from engine.service import Catalogue, enter, enter_reactivation
from mtad.base.config import Config
from mtad.base.db import Connection
from mtad.base.errors import InputError
from mtad.queue import entries, programs, store
from mtad.queue.programs import Candidate, Newcomer, ProgramRow, Standing, Step

# Tally rows are one a worker slot; commands and the housekeeper share this one.
COMMAND_SLOT = -1

# What is about a day of the year makes no sense later.
ONE_DAY = timedelta(days=1)


class Taken(msgspec.Struct, frozen=True):
    """What became of some people at the door of a program."""

    contacts: frozenset[int]  # who are in it
    queued: int
    left_out: int
    next_slot: datetime | None = None  # of a program with a max_rate


NOBODY = Taken(frozenset(), 0, 0)


async def first_step(catalogue: Catalogue, config: Config, program: ProgramRow) -> tuple[Step, Definition]:
    """What a program begins with, and its definition."""
    await catalogue.need([(program.id, program.version)], [(program.stream_id, program.stream_version)], program.epoch)
    held = catalogue.program(program.id, program.version)
    definition = held.definition
    starts = program.starts or datetime.now(UTC)
    program = msgspec.structs.replace(program, starts=starts)
    first = definition.first
    life = life_of(definition, first)
    step = Step(program, held.messages[first], first, starts, spacing=definition.spacing, life=life)
    step = at_time(step, config, starts)
    if definition.yearly:
        step = msgspec.structs.replace(step, not_after=min(step.not_after, starts + ONE_DAY))
    return step, definition


def at_time(step: Step, config: Config, due: datetime) -> Step:
    """The same with first mails that are due then."""
    program = step.program
    not_after = last_moment(config, program.class_, due, step.life, program.not_after)
    return msgspec.structs.replace(step, due=due, not_after=not_after, latest=program.not_after)


def last_moment(
    config: Config, class_: int, due: datetime, life: timedelta | None, not_after: datetime | None
) -> datetime:
    """When a mail that is due then is given up: for its class, its step or its program, whichever is first."""
    found = due + config.max_age(class_)
    if life is not None:
        found = min(found, due + life)
    return found if not_after is None else min(found, not_after)


async def take_in(
    conn: Connection,
    catalogue: Catalogue,
    config: Config,
    step: Step,
    definition: Definition,
    people: Sequence[Candidate | Newcomer],
    standing: Standing,
) -> Taken:
    """Queue the first mails of these people, in the order of contacts, or leave them out with a reason."""
    program = step.program
    reasons = await _reasons(conn, catalogue, step, definition, [p.contact_id for p in people if not p.clear])
    if definition.holdout:
        held = [p.contact_id for p in people if held_out(program.id, p.contact_id, definition.holdout)]
        reasons |= {contact: str(Reason.HOLDOUT) for contact in held if contact not in reasons}
    if definition.instead:
        reasons |= await _redirected(conn, catalogue, config, definition.instead, reasons)
    queued = [p for p in people if p.contact_id not in reasons] if reasons else list(people)
    queued = await _entered(conn, step, definition, queued)
    new = out = 0
    next_slot = None
    if queued:
        if step.spacing:
            # What should have begun before now does not make up for it at once.
            due = max(filter(None, (standing.next_slot, step.due, datetime.now(UTC))))
            step = at_time(step, config, due)
            next_slot = due + timedelta(seconds=step.spacing * len(queued))
        ways = [(p.contact_id, p.site_id) for p in queued]
        new = await programs.enqueue(conn, step, COMMAND_SLOT, ways, [p.state for p in queued])
        await store.wake_sites(conn, sorted({p.site_id for p in queued if p.site_id is not None}))
    if reasons:
        out = await programs.leave_out(conn, step, COMMAND_SLOT, list(reasons.items()))
    return Taken(frozenset(p.contact_id for p in queued), new, out, next_slot)


async def _entered(
    conn: Connection, step: Step, definition: Definition, people: list[Candidate | Newcomer]
) -> list[Candidate | Newcomer]:
    """Those whose state lets them in, after what entering does to it."""
    stream = step.program.stream_id
    # The transaction's own time, for that is when the entries will say that they began.
    now: datetime = await conn.fetchval("select now()")
    if definition.kind == "reactivation":
        contacts = [p.contact_id for p in people]
        await entries.lock_gates(conn, contacts)
        trying = await enter_reactivation(conn, stream, contacts, now)
        return [p for p in people if p.contact_id in trying]
    series = definition.kind == "series"
    entering = [p.contact_id for p in people if series or p.state == "reactivated"]
    if entering:
        await enter(conn, stream, entering, now, series=series)
    return people


async def _reasons(
    conn: Connection, catalogue: Catalogue, step: Step, definition: Definition, contacts: Sequence[int]
) -> dict[int, str]:
    """Why those contacts get no mail that do not; the gate's words."""
    if not contacts:
        return {}
    facts = await entering_facts(conn, contacts, step)
    context = gate.Context(definition, catalogue.suppressed_domains)
    now = datetime.now(UTC)
    verdicts = {f.contact_id: gate.verdict(f, context, now) for f in facts}
    return {contact: v.reason for contact, v in verdicts.items() if isinstance(v, Skip)}


async def entering_facts(conn: Connection, contacts: Sequence[int], step: Step) -> list[Facts]:
    """What a verdict on the first mail needs. Whom a reactivation takes is trying when it comes to that."""
    found = await programs.audience_facts(conn, contacts, step)
    if step.program.kind != "reactivation":
        return found
    return [msgspec.structs.replace(facts, state="trying") for facts in found]


async def _redirected(
    conn: Connection, catalogue: Catalogue, config: Config, target: str, reasons: dict[int, str]
) -> dict[int, str]:
    """The reasons of those who are taken over by another program, because they are Inactive."""
    inactive = [contact for contact, reason in reasons.items() if reason.startswith(f"{Reason.INACTIVE}:")]
    taken = await redirect(conn, catalogue, config, target, inactive)
    return dict.fromkeys(taken, f"{Reason.REDIRECTED}:{target}")


async def redirect(
    conn: Connection, catalogue: Catalogue, config: Config, target: str, contacts: Sequence[int]
) -> frozenset[int]:
    """Have a running program take these contacts in; whom it took. It refuses whom it would refuse anyway."""
    if not contacts:
        return frozenset()
    try:
        program = await programs.program_by_name(conn, target)
    except InputError:
        return frozenset()
    standing = await programs.lock_enqueue(conn, program.id)
    now = datetime.now(UTC)
    if standing.status != "running" or (program.not_after and program.not_after <= now):
        return frozenset()
    step, definition = await first_step(catalogue, config, program)
    attributes = definition.audience.attributes
    people = await programs.newly_eligible(
        conn, step, attributes, (now, 0), now, looks=False, redirected=sorted(contacts)
    )
    return await let_in(conn, catalogue, config, at_time(step, config, now), definition, people, standing)


async def let_in(
    conn: Connection,
    catalogue: Catalogue,
    config: Config,
    step: Step,
    definition: Definition,
    people: Sequence[Newcomer],
    standing: Standing,
) -> frozenset[int]:
    """Take in whom nothing speaks against; the others are not meant yet, and get no row. Who is in."""
    fitting: dict[tuple[int, str], dict[int, Newcomer]] = {}
    for one in people:
        if one.takes and one.clear:
            fitting.setdefault((one.round, one.via), {})[one.contact_id] = one
    inside: frozenset[int] = frozenset()
    for (round_, via), group in sorted(fitting.items()):
        ordered = [group[contact] for contact in sorted(group) if contact not in inside]
        of_round = msgspec.structs.replace(step, round=round_, via=via)
        taken = await take_in(conn, catalogue, config, of_round, definition, ordered, standing)
        standing = msgspec.structs.replace(standing, next_slot=taken.next_slot or standing.next_slot)
        inside |= taken.contacts
    if definition.spacing:
        await programs.mark_slot(conn, step.program.id, standing.next_slot)
    return inside
