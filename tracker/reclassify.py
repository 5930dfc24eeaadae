"""Verdicts recomputed over hits that are kept whole: after a changed file of networks, or list of agents.

Hits are read in the order of their time, with those REACH before and behind them, so that each
is judged with all that is known in the end; what was judged while it happened did not know
what came later. A hit of another class than before is written so, and the engine is told of
whom, in the same transaction.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from functools import partial
from uuid import UUID

import msgspec

from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.ids import uuid7
from tracker import store
from tracker.agents import AGENTS_OF
from tracker.conduct import REACH
from tracker.hits import Hit, HitClass, Judgement, Kind
from tracker.judging import judge, visits
from tracker.networks import Networks
from tracker.ranges import Ranges
from tracker.ripening import Retell, about
from tracker.store import JudgedHit
from tracker.views import follow

# As the query judged_hits says.
PAGE = 5000


Bases = Callable[[Connection, Sequence[tuple[int, int]]], Awaitable[dict[tuple[int, int], datetime]]]
"""Up to when nothing that is judged anew changes the scores and states of (stream, contact); most are missing."""

TOO_OLD = "too old"


class Reclassified(msgspec.Struct, frozen=True):
    """What was looked at, and what is of another class now: 'human → scanner' and how often."""

    hits: int
    changed: dict[str, int]
    too_old: int  # of these: would count for scores and states otherwise than before, but nothing so old does
    agents_of: date


async def reclassify(
    pool: Pool,
    networks: Networks,
    retell: Retell,
    bases: Bases,
    *,
    since: datetime,
    until: datetime,
    dry_run: bool = False,
) -> Reclassified:
    """Judge the hits of a time again; with `dry_run` only count. Doing it twice changes nothing more.

    Mails that have not ended, or that nobody knows any more, keep their verdicts. A page of
    hits is a transaction, so who interrupts it and starts again loses nothing.
    """
    looked = 0
    changed: Counter[str] = Counter()
    held: list[JudgedHit] = []
    done: set[UUID] = set()
    after, last = _id(since - REACH, bytes(10)), _id(until + REACH, b"\xff" * 10)
    while True:
        async with pool.acquire() as conn:
            page = await store.judged_hits(conn, after, last)
        held += page
        complete = len(page) < PAGE
        edge = until if complete or not held else min(until, held[-1].hit.at - REACH)
        ripe = [one for one in held if since <= one.hit.at <= edge and one.hit.event_id not in done]
        work = partial(
            _judge_again, ripe=ripe, held=held, networks=networks, retell=None if dry_run else retell, bases=bases
        )
        changed.update(await in_transaction(pool, work))
        looked += sum(one.class_ is not None for one in ripe)
        if complete:
            too_old = changed.pop(TOO_OLD, 0)
            return Reclassified(looked, dict(sorted(changed.items())), too_old, AGENTS_OF)
        after = page[-1].hit.event_id
        held = [one for one in held if one.hit.at > edge - 2 * REACH]
        done = {one.hit.event_id for one in held if one.hit.at <= edge}


async def _judge_again(
    conn: Connection,
    *,
    ripe: Sequence[JudgedHit],
    held: Sequence[JudgedHit],
    networks: Networks,
    retell: Retell | None,
    bases: Bases,
) -> Counter[str]:
    """Judge some of the hits that are held; without `retell` nothing is written."""
    by_job: defaultdict[int, list[Hit]] = defaultdict(list)
    looks: defaultdict[tuple[int | None, int | None], list[Hit]] = defaultdict(list)
    for one in held:
        if one.hit.kind is Kind.LOOK:
            looks[one.contact_id, one.program_id].append(one.hit)
        else:
            by_job[one.hit.job_id].append(one.hit)
    mails = {mail.job_id: mail for mail in await store.mails_hit(conn, sorted(by_job))}
    sweeps = Ranges().sweeps(
        visit
        for job, hits in by_job.items()
        if job in mails and (contact := mails[job].contact_id)
        for visit in visits(hits, about(mails[job]), contact, networks)
    )
    verdicts: dict[UUID, Judgement] = {}
    for job in {one.hit.job_id for one in ripe if one.hit.job_id}:
        mail = mails.get(job)
        if mail and mail.known and not mail.queued:
            hits = by_job[job]
            beside = looks[mail.contact_id, mail.program_id]
            judged = judge(hits, about(mail), beside=beside, swept=sweeps.found, networks=networks)
            verdicts |= {hit.event_id: judgement for hit, judgement in zip(hits, judged, strict=True)}
    return await _change(conn, ripe, verdicts, retell, bases)


async def _change(
    conn: Connection, ripe: Sequence[JudgedHit], verdicts: dict[UUID, Judgement], retell: Retell | None, bases: Bases
) -> Counter[str]:
    """Write what is judged otherwise than before; how often of which, and of these how many are TOO_OLD."""
    changed: Counter[str] = Counter()
    written: list[tuple[UUID, Judgement]] = []
    times: defaultdict[tuple[int, int], list[datetime]] = defaultdict(list)
    for one in ripe:
        judgement = verdicts.get(one.hit.event_id)
        if judgement is None or (judgement.class_ == one.class_ and judgement.reasons == one.reasons):
            continue
        written.append((one.hit.event_id, judgement))
        if judgement.class_ != one.class_:
            changed[f"{one.class_} → {judgement.class_.value}"] += 1
            if one.stream_id and one.contact_id and _tells(one.class_, judgement.class_):
                times[one.stream_id, one.contact_id].append(one.hit.at)
    whose = sorted(times)
    for key, begin in (await bases(conn, whose)).items() if whose else ():
        changed[TOO_OLD] += sum(at <= begin for at in times[key])
    if retell and written:
        await store.change_verdicts(conn, written)
        followed = await follow(conn, [event_id for event_id, _ in written])
        await retell(conn, sorted({*whose, *followed}))
    return changed


def _tells(before: str | None, after: str) -> bool:
    """Whether the change means something to the engine: machine or scanner is one to it."""
    against = {HitClass.MACHINE.value, HitClass.SCANNER.value}
    return not {before, after} <= against


def _id(at: datetime, entropy: bytes) -> UUID:
    return uuid7(max(0, int(at.timestamp() * 1000)), entropy)
