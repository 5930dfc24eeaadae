"""SQL of the engine, sql/queries/engine.sql. What locks rows says so in its name or its words."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from engine.history import Versions
from engine.policy import Policy, StreamDefinition
from engine.replay import NEVER
from engine.score import Hit, Key, Leave, points_of
from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries

SQL = queries("engine")


class Sign(Protocol):
    """An open or a click by a person who may be measured, on a mail that arrived, or may have."""

    @property
    def event_id(self) -> UUID: ...
    @property
    def job_id(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def link_id(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def stream_id(self) -> int: ...
    @property
    def contact_id(self) -> int: ...
    @property
    def entry_id(self) -> int | None: ...


class Taken(msgspec.Struct, frozen=True, gc=False):
    """A pending hit that is judged."""

    event_id: UUID
    job_id: int
    kind: str
    link_id: int
    at: datetime
    stream_id: int
    contact_id: int  # 0: it counts for nobody
    entry_id: int | None


class EndedWay(msgspec.Struct, frozen=True):
    """An entry that came to the end of its series."""

    id: int
    stream_id: int
    contact_id: int
    entered: datetime
    program: str
    kind: str
    when_silent: str
    now: datetime
    heard: bool  # so that silence means something


class StrandedWay(msgspec.Struct, frozen=True):
    """A reactivation that is over while its contact is still trying."""

    id: int
    stream_id: int
    contact_id: int
    entered: datetime
    ended: datetime
    program: str


# ── What is sent, by which rules ──


async def program_versions(conn: Connection, wanted: Sequence[tuple[int, int]]) -> list[tuple[Any, ...]]:
    """(id, version, name, kind, stream, definition, messages by node) of each that exists."""
    rows = await conn.fetch(SQL["program_versions"], [x[0] for x in wanted], [x[1] for x in wanted])
    return [row_values(row) for row in rows]


async def stream_versions(conn: Connection, wanted: Sequence[tuple[int, int]]) -> list[tuple[Any, ...]]:
    """(id, version, name, definition) of each that exists."""
    rows = await conn.fetch(SQL["stream_versions"], [x[0] for x in wanted], [x[1] for x in wanted])
    return [row_values(row) for row in rows]


async def held_domains(
    conn: Connection,
) -> tuple[int, frozenset[str], dict[str, datetime], dict[int, datetime], bool]:
    """As of an epoch: it, the domains that get nothing, until when domains and programs are suspended.

    Last, whether some stream caps the mail of all.
    """
    (row,) = await conn.fetch(SQL["held_domains"])
    epoch, suppressed, domains, domains_until, programs, programs_until, caps_all = row_values(row)
    return (
        epoch,
        frozenset(suppressed),
        dict(zip(domains, domains_until, strict=True)),
        dict(zip(programs, programs_until, strict=True)),
        caps_all,
    )


async def current_streams(conn: Connection, streams: Collection[int]) -> dict[int, StreamDefinition]:
    """The rules of these streams as they are now."""
    rows = await conn.fetch(SQL["current_streams"], list(streams))
    return {row[0]: StreamDefinition.from_json(row[1]) for row in rows}


async def versions_of(conn: Connection, streams: Collection[int]) -> dict[int, Versions]:
    """What these streams were, and from when on."""
    found: dict[int, list[tuple[datetime, StreamDefinition]]] = {}
    for stream, made, definition in await conn.fetch(SQL["versions_of"], list(streams)):
        versions = found.setdefault(stream, [])
        versions.append((made if versions else NEVER, StreamDefinition.from_json(definition)))
    return dict(found)


# ── The fold ──


async def take_hits(conn: Connection) -> list[Taken]:
    """Lock up to 1,000 judged hits whose mail is not queued any more, in the order of their receipt."""
    return [Taken(*row) for row in await conn.fetch(SQL["take_hits"])]


async def fold_plain(
    conn: Connection, signs: Sequence[Sign], policies: Mapping[int, Policy], heard: datetime
) -> tuple[set[int], list[Sign]]:
    """Write what signs do to rows to which nothing else happens; whose gates are locked, and the signs of all others.

    Who has a gate or a row that somebody else holds, or changed meanwhile, is one of these others, but not of
    the first. Waits for nobody. `policies` of all streams.
    """
    rules = _plain_rules(policies)
    (row,) = await conn.fetch(
        SQL["fold_plain"],
        [sign.event_id for sign in signs],
        [sign.job_id for sign in signs],
        [sign.kind for sign in signs],
        [sign.link_id for sign in signs],
        [sign.at for sign in signs],
        [sign.stream_id for sign in signs],
        [sign.contact_id for sign in signs],
        [sign.entry_id for sign in signs],
        [points_of(sign.kind, policies[sign.stream_id]) for sign in signs],
        list(rules),
        [policy.threshold for policy in rules.values()],
        [policy.days_need_attempts for policy in rules.values()],
        [min(policy.days, policy.days_unclear) * policy.day for policy in rules.values()],
        [policy.window for policy in rules.values()],
        heard,
    )
    left, gates = row_values(row)
    return set(gates), [signs[number - 1] for number in left]


def _plain_rules(policies: Mapping[int, Policy]) -> dict[int, Policy]:
    """Of streams that are not left to the machine: when points lapse, only a replay knows."""
    return {id_: policy for id_, policy in policies.items() if not policy.points_last and policy.days_need_attempts}


async def nodes_of(conn: Connection, jobs: Collection[int]) -> dict[int, tuple[str, bool]]:
    """By job the node that sent it, and whether that is one of a reactivation."""
    return {row[0]: (row[1], row[2]) for row in await conn.fetch(SQL["nodes_of"], list(jobs))}


async def positions(conn: Connection, links: Collection[int]) -> dict[int, int]:
    """Which link of its message each is; 0 is the pixel."""
    return {row[0]: row[1] for row in await conn.fetch(SQL["positions"], list(links))}


async def drop_hits(conn: Connection, events: Sequence[UUID]) -> None:
    await conn.execute(SQL["drop_hits"], events)


async def answered(conn: Connection, jobs: Collection[int]) -> set[tuple[int, str]]:
    """The (job, kind) that earned their points before."""
    return {(row[0], row[1]) for row in await conn.fetch(SQL["answered"], list(jobs))}


async def add_answers(conn: Connection, answers: Sequence[tuple[Hit, int]]) -> None:
    """Record first answers with the points that counted."""
    hits = [hit for hit, _ in answers]
    await conn.execute(
        SQL["add_answers"],
        [hit.job_id for hit in hits],
        [hit.kind for hit in hits],
        [hit.contact_id for hit in hits],
        [hit.stream_id for hit in hits],
        [hit.link_id for hit in hits],
        [hit.at for hit in hits],
        [hit.event_id for hit in hits],
        [points for _, points in answers],
    )


# ── The rows of contacts on streams ──


async def lock_gates(conn: Connection, contacts: Collection[int]) -> set[int]:
    """Lock the fences of these contacts, in order; those that exist."""
    return {row[0] for row in await conn.fetch(SQL["lock_gates"], sorted(set(contacts)))}


async def erased(conn: Connection, contact: int) -> bool:
    """Whether nothing is left of a contact, whose gate is locked, but its number."""
    return bool(await conn.fetchval(SQL["erased"], contact))


async def erased_of(conn: Connection, contacts: Collection[int]) -> set[int]:
    """Those of contacts, whose gates are locked, of whom nothing is left."""
    return {row[0] for row in await conn.fetch(SQL["erased_of"], list(contacts))}


async def raise_gates(conn: Connection, contacts: Collection[int]) -> None:
    """Make verdicts about these contacts stale; their fences are locked."""
    await conn.execute(SQL["raise_gates"], sorted(set(contacts)))


async def add_engagements(conn: Connection, rows: Sequence[tuple[Key, datetime]]) -> None:
    """Rows for those that have none: New."""
    await conn.execute(
        SQL["add_engagements"], [key[0] for key, _ in rows], [key[1] for key, _ in rows], [since for _, since in rows]
    )


async def enter(
    conn: Connection, stream: int, contacts: Collection[int], at: datetime, *, series: bool, fact: str
) -> None:
    """Begin rounds, and make Engaged and Reactivated Active where the table says so."""
    await conn.execute(SQL["enter"], stream, sorted(set(contacts)), at, series, fact)


async def enter_reactivation(
    conn: Connection, stream: int, contacts: Collection[int], at: datetime, fact: str
) -> set[int]:
    """Those whose cool-down is over try again; who does."""
    rows = await conn.fetch(SQL["enter_reactivation"], stream, sorted(set(contacts)), at, fact)
    return {row[0] for row in rows}


async def streams_of(conn: Connection, contacts: Collection[int]) -> set[Key]:
    """Where something is known of them."""
    return {(row[0], row[1]) for row in await conn.fetch(SQL["streams_of"], sorted(set(contacts)))}


# ── What ends ──


async def leave(conn: Connection, leaves: Sequence[Leave], *, spare: Sequence[int] = ()) -> set[Key]:
    """End running entries, but not those to spare; (stream, contact) of those that ended."""
    rows = await conn.fetch(
        SQL["leave"],
        [x.contact_id for x in leaves],
        [x.stream_id for x in leaves],
        [x.entry_id for x in leaves],
        [x.sign for x in leaves],
        [x.why for x in leaves],
        spare,
    )
    return {(row[1], row[0]) for row in rows}


async def wake_jobs(conn: Connection, whose: Collection[tuple[int | None, int, int]]) -> None:
    """Waiting jobs of (stream or None for all, contact, least class) are due now, so that the gate ends them at once.

    One call for all of a transaction: two would lock jobs out of order.
    """
    await conn.execute(SQL["wake_jobs"], [x[1] for x in whose], [x[0] for x in whose], [x[2] for x in whose])


async def waits_over(conn: Connection, entries: Sequence[int]) -> list[tuple[int, datetime, datetime, Key]]:
    """(entry, the end of its wait, when its last mail arrived, whose it is) of those to which one did."""
    rows = await conn.fetch(SQL["waits_over"], entries)
    return [(row[0], row[1], row[2], (row[3], row[4])) for row in rows]


async def ended_ways(conn: Connection, entries: Sequence[int]) -> list[EndedWay]:
    """Those of the entries that still run."""
    return [EndedWay(*row_values(row)) for row in await conn.fetch(SQL["ended_ways"], entries)]


async def stranded_ways(conn: Connection) -> list[StrandedWay]:
    """Up to 1,000 reactivations that are over while their contact is still trying."""
    return [StrandedWay(*row_values(row)) for row in await conn.fetch(SQL["stranded_ways"])]


async def unsubscribe(conn: Connection, contact: int, stream: int, at: datetime, how: str) -> None:
    """Take back the permission; who left before keeps the time of that."""
    await conn.execute(SQL["unsubscribe"], contact, stream, at, how)


async def add_event(
    conn: Connection,
    event_id: UUID,
    kind: str,
    at: datetime,
    data: dict[str, Any],
    *,
    contact: int | None = None,
    stream: int | None = None,
) -> bool:
    """Record a fact; False when it was there already."""
    return await conn.fetchval(SQL["add_event"], event_id, kind, at, contact, stream, data) is not None


async def add_complaints(conn: Connection, ids: Mapping[int, UUID], at: datetime) -> None:
    """Record one of each contact, under the id of its event."""
    await conn.execute(SQL["add_complaints"], list(ids.values()), list(ids), at)


async def now(conn: Connection) -> datetime:
    """The time of this transaction, by the database's clock."""
    at: datetime = await conn.fetchval(SQL["now"])
    return at


async def stream_of_program(conn: Connection, program: int) -> int | None:
    found: int | None = await conn.fetchval(SQL["stream_of_program"], program)
    return found


async def contacts_of_keys(conn: Connection, keys: Collection[str]) -> dict[int, str]:
    """Contact → address key, of those keys that somebody has."""
    return {row[0]: row[1] for row in await conn.fetch(SQL["contacts_of_keys"], list(keys))}


async def suppress(conn: Connection, rows: Sequence[tuple[str, str, str, str, datetime | None]]) -> int:
    """(key, scope, reason, source, until or None for ever); how many were not in force before."""
    return int(
        await conn.fetchval(
            SQL["suppress"],
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[2] for row in rows],
            [row[3] for row in rows],
            [row[4] for row in rows],
        )
    )


async def release(conn: Connection, keys: Sequence[str]) -> list[str]:
    """Close open suppressions; their keys."""
    return [row[0] for row in await conn.fetch(SQL["release"], keys)]


async def raise_epoch(conn: Connection) -> None:
    await conn.execute(SQL["raise_epoch"])


async def lock_program(conn: Connection, program: int) -> str | None:
    """Lock a program's row against begin; its status, None where there is none."""
    status: str | None = await conn.fetchval(SQL["lock_program"], program)
    return status


async def set_program_status(conn: Connection, program: int, status: str, why: str | None) -> None:
    """Its row is locked. Raises the fence."""
    await conn.execute(SQL["set_program_status"], program, status, why)


async def end_program(conn: Connection, program: int, why: str) -> None:
    """End its running entries."""
    await conn.execute(SQL["end_program"], program, why)
