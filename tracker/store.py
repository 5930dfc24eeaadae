"""The tracker's SQL: one typed function a query of sql/queries/tracker.sql."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from mtad.base.db import Connection, Pool, Row, row_values
from mtad.base.ids import uuid7
from mtad.base.sqlfiles import queries
from tracker.conduct import REACH
from tracker.hits import HYGIENE, Hit, Judgement, Kind, Method, by_request, certain
from tracker.links import Link
from tracker.modes import Mode, Reduced, keep_reduced, modes_now, stricter

SQL = queries("tracker")

_SIGNS = frozenset({Kind.OPEN, Kind.CLICK})

# By value: calling an Enum takes 0.4 µs.
_KINDS = {kind.value: kind for kind in Kind}
_METHODS = {method.value: method for method in Method}

# The least and the last event id of a millisecond.
_FIRST, _LAST = bytes(10), b"\xff" * 10


class Settled(msgspec.Struct, frozen=True):
    """The mails of some unjudged hits that may be old enough."""

    jobs: list[int]
    last: UUID | None  # of the hits
    hits: int
    heard_until: datetime  # no live worker holds an older hit
    ours: bool | None  # whether this transaction judges them: one at a time does


class MailHit(msgspec.Struct, frozen=True, gc=False):
    """What is known of a mail that was hit."""

    job_id: int
    known: bool  # False: neither in the ledger nor in the queue
    contact_id: int | None  # None: erased since
    stream_id: int | None
    program_id: int | None
    message_id: int | None
    entry_id: int | None
    arrived: bool  # or may have
    dot_at: datetime | None
    accepted_at: datetime | None
    doubts: int
    queued: bool
    settle: timedelta | None  # the window of its stream
    mode: str | None  # in which its contact may be measured now
    links: int  # that are tracked, without the pixel


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What becomes of one hit."""

    hit: Hit
    judgement: Judgement | None  # None: of a mail that nobody knows
    mail: MailHit
    earns: bool  # something, if the mail arrived
    stays: bool  # in pending
    mode: Mode  # less than full: it never becomes an event


class Sign(msgspec.Struct, frozen=True, gc=False):
    """A hit by a person who may be measured, on a mail that arrived, or may have."""

    event_id: UUID
    job_id: int
    kind: Kind
    link_id: int
    at: datetime
    stream_id: int
    contact_id: int
    entry_id: int | None


class JudgedHit(msgspec.Struct, frozen=True, gc=False):
    """A hit as it stands in `event`."""

    hit: Hit
    class_: str | None  # None: a look at the unsubscribe page, which is evidence only
    reasons: tuple[str, ...]
    stream_id: int | None
    contact_id: int | None
    program_id: int | None  # of a look


async def ingest(conn: Connection, hits: Sequence[Hit], *, new: bool = False) -> int:
    """Queue hits that may earn points, and write down the others; how many were new. `new`: all of them must be.

    What the request alone decides is decided here, so that robots never wait for
    a settle window. Of what may not be kept whole there is what its mode leaves.
    """
    waiting: list[Hit] = []
    decided: list[tuple[Hit, Judgement | None]] = []
    reduced: list[Reduced] = []
    of_somebody: list[Hit] = []
    for hit in hits:
        sign = hit.kind in _SIGNS
        if sign and not hit.job_id:
            reduced.append(Reduced(hit, by_request(hit).class_, Mode.AGGREGATE))
        elif sign and hit.how != HYGIENE and certain(hit) is None:
            waiting.append(hit)
        elif sign or hit.kind is Kind.LOOK:
            of_somebody.append(hit)
        else:
            decided.append((hit, None))
    for hit, now in zip(of_somebody, await modes_now(conn, of_somebody) if of_somebody else [], strict=True):
        mode = (now.mode or Mode.NONE) if now.known else Mode.FULL
        if hit.how == HYGIENE:
            mode = stricter(Mode.HYGIENE, mode)
        if mode is Mode.FULL:
            decided.append((hit, certain(hit) if hit.kind in _SIGNS else None))
        else:
            reduced.append(Reduced(hit, by_request(hit).class_, mode))
    found = await _queue(conn, waiting, new=new) if waiting else 0
    if decided:
        found += await conn.fetchval(
            SQL["ingest_decided"],
            [hit.event_id for hit, _ in decided],
            [hit.kind for hit, _ in decided],
            [hit.at for hit, _ in decided],
            [hit.job_id for hit, _ in decided],
            [hit.link_id for hit, _ in decided],
            [hit.contact_id for hit, _ in decided],
            [hit.program_id for hit, _ in decided],
            [hit.method for hit, _ in decided],
            [hit.agent for hit, _ in decided],
            [hit.network for hit, _ in decided],
            [one.class_ if one else None for _, one in decided],
            [",".join(one.reasons) if one else "" for _, one in decided],
        )
    await keep_reduced(conn, reduced)
    return found + len(reduced)


async def _queue(conn: Connection, hits: Sequence[Hit], *, new: bool) -> int:
    columns = (
        [hit.event_id for hit in hits],
        [hit.kind for hit in hits],
        [hit.at for hit in hits],
        [hit.job_id for hit in hits],
        [hit.link_id for hit in hits],
        [hit.method for hit in hits],
        [hit.agent for hit in hits],
        [hit.network for hit in hits],
    )
    if new:
        await conn.execute(SQL["ingest_new"], *columns)
        return len(hits)
    return int(await conn.fetchval(SQL["ingest"], *columns))


async def known_events(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the ids that are written down already."""
    return {row[0] for row in await conn.fetch(SQL["known_events"], ids)}


async def set_ingested_until(conn: Connection, worker: int, at: datetime) -> None:
    """Every hit that this worker received before `at` is in `event`; never moves back."""
    await conn.execute(SQL["set_ingested_until"], worker, at)


async def settled_hits(conn: Connection, after: UUID) -> Settled:
    """Up to 1,000 unjudged hits after this event that may be old enough, the oldest first; locks out other judges."""
    (row,) = await conn.fetch(SQL["settled_hits"], after)
    return Settled(*row_values(row))


async def unjudged_hits(conn: Connection, jobs: Sequence[int]) -> dict[int, list[Hit]]:
    """By job, in order of time; of each the 5,000 oldest."""
    found: defaultdict[int, list[Hit]] = defaultdict(list)
    for row in await conn.fetch(SQL["unjudged_hits"], jobs):
        hit = _hit(row)
        found[hit.job_id].append(hit)
    return found


async def mails_hit(conn: Connection, jobs: Sequence[int]) -> list[MailHit]:
    """What is known of the mails that are not being sent, in order of id."""
    return [MailHit(*row) for row in await conn.fetch(SQL["mails_hit"], jobs)]


async def evidence(
    conn: Connection, mails: Sequence[tuple[MailHit, datetime, datetime]]
) -> defaultdict[int, list[Hit]]:
    """Whatever else was asked of each mail within reach of its hits between two times, by job."""
    asked = [(mail, since - REACH, until + REACH) for mail, since, until in mails if mail.contact_id]
    found: defaultdict[int, list[Hit]] = defaultdict(list)
    if not asked:
        return found
    rows = await conn.fetch(
        SQL["evidence"],
        [mail.job_id for mail, _, _ in asked],
        [mail.contact_id for mail, _, _ in asked],
        [mail.program_id for mail, _, _ in asked],
        [since for _, since, _ in asked],
        [until for _, _, until in asked],
        _event_id(min(since for _, since, _ in asked), _FIRST),
        _event_id(max(until for _, _, until in asked), _LAST),
    )
    for row in rows:
        hit = _hit(row)
        found[hit.job_id].append(hit)
    return found


async def write_verdicts(conn: Connection, verdicts: Sequence[Verdict]) -> set[UUID]:
    """Make events of hits; those that become none: they were, or wait no more. In pending only who stays remains."""
    rows = await conn.fetch(
        SQL["write_verdicts"],
        [one.hit.event_id for one in verdicts],
        [one.judgement.class_ if one.judgement else None for one in verdicts],
        [",".join(one.judgement.reasons) if one.judgement else "" for one in verdicts],
        [one.mail.contact_id for one in verdicts],
        [one.mail.stream_id for one in verdicts],
        [one.stays for one in verdicts],
    )
    return {row[0] for row in rows}


async def void_visits(conn: Connection, events: Collection[UUID]) -> list[tuple[int, int]]:
    """Judged as people's, and a gateway's all the same: (stream, contact) of those that change."""
    rows = await conn.fetch(SQL["void_visits"], sorted(events))
    return sorted({(row[0], row[1]) for row in rows})


async def judged_hits(conn: Connection, after: UUID, until: UUID) -> list[JudgedHit]:
    """Up to 5,000 hits with their verdicts behind an event, in order; those whose agent is kept."""
    return [
        JudgedHit(_hit(row[:8]), row[8], tuple(row[9] or ()), row[10], row[11], row[12])
        for row in (row_values(one) for one in await conn.fetch(SQL["judged_hits"], after, until))
    ]


async def change_verdicts(conn: Connection, hits: Sequence[tuple[UUID, Judgement]]) -> None:
    """Write other verdicts to events."""
    await conn.execute(
        SQL["change_verdicts"],
        [id_ for id_, _ in hits],
        [judgement.class_ for _, judgement in hits],
        [",".join(judgement.reasons) for _, judgement in hits],
    )


async def links(pool: Pool, after: int, missing: Sequence[int], most: int) -> list[tuple[int, Link]]:
    """The next `most` links with ids above `after`, and the `missing` ones, in order of id."""
    rows = await pool.fetch(SQL["links"], after, missing, most)
    return [(row[0], Link(*row_values(row)[1:])) for row in rows]


def _hit(row: Row | tuple[Any, ...]) -> Hit:
    event_id, at, kind, method, agent, network, job_id, link_id = row
    return Hit(event_id, at, _KINDS[kind], _METHODS[method], agent, network, job_id, link_id)


def _event_id(at: datetime, entropy: bytes) -> UUID:
    return uuid7(int(at.timestamp() * 1000), entropy)
