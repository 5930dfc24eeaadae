"""The ripening of hits: judged together with their mail, when all of them are in."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import msgspec
import prometheus_client

from mtad.base.db import Connection, Pool, in_transaction
from tracker import store
from tracker.hits import EARNING, Hit, Judgement, Kind
from tracker.judging import QUICKEST, Mail, judge, visits
from tracker.modes import Mode, Reduced, drop_hits, keep_reduced
from tracker.networks import NOWHERE, Networks
from tracker.occurrences import Offer, offered_to_nobody
from tracker.ranges import SPAN, Ranges, Sweeps
from tracker.views import follow, judge_views

JUDGED = prometheus_client.Counter(
    "mtad_tracker_judged_total", "Hits judged together with their mail", ["kind", "class"]
)

# The settle window is in it, so what is above that is what load adds.
FOLDED = prometheus_client.Histogram(
    "mtad_tracker_fold_seconds",
    "From a person's hit to the commit of its fold",
    buckets=(0.5, 1, 2, 5, 5.25, 5.5, 5.75, 6, 6.5, 7, 8, 10, 15, 30, 60, 120, 300),
)

# Hits whose mails are judged in one transaction: the literal limit of the query settled_hits.
RIPE_BATCH = 1000

# The settle window of mail of which nobody knows the stream, and how many windows are waited at most.
DEFAULT_SETTLE = timedelta(seconds=5)
PATIENCE = 12

# Mails judged in one turn of the loop: two milliseconds. Where mail is sent beside it, a turn takes ten and more.
SLICE = 200

# Takes people's hits, in the transaction that judges them.
Fold = Callable[[Connection, Sequence[store.Sign]], Awaitable[object]]

# Takes (stream, contact) of which an event has another class than it had.
Retell = Callable[[Connection, Sequence[tuple[int, int]]], Awaitable[object]]


async def ripen(
    pool: Pool,
    fold: Fold | None = None,
    *,
    retell: Retell | None = None,
    networks: Networks = NOWHERE,
    ranges: Ranges | None = None,
    offer: Offer = offered_to_nobody,
) -> int:
    """Judge the hits of every mail whose settle window is over; how many hits were judged.

    Per mail, all hits of all workers together. Each becomes an event with class and reasons,
    and leaves `pending`; a person's on a mail that has ended is handed to `fold` in the same
    transaction. A mail that is being sent waits. A person's hit on a job in doubt proves that
    it arrived: it stays in `pending`, with its class, for whoever settles that job, and so
    does all that may earn points when there is no `fold`. Running it again, or twice at
    once, changes nothing. `ranges` remembers from call to call who visits the mails of many;
    whoever turns out to have been one of them after he was judged is void, which `retell`
    is told of. Then the page views whose click is judged; `offer` takes those of people.
    """
    judged = 0
    remembered = Ranges() if ranges is None else ranges
    after: UUID | None = UUID(int=0)
    while after is not None:
        work = partial(_ripen_batch, after=after, fold=fold, networks=networks, ranges=remembered)
        batch = await in_transaction(pool, work)
        now = datetime.now(UTC)
        for at in batch.folded:
            FOLDED.observe((now - at).total_seconds())
        after, judged = batch.after, judged + batch.judged
        if batch.late and retell:
            # By itself: gates are locked in one order, and the fold above has locked some.
            await in_transaction(pool, partial(_void, events=batch.late, retell=retell))
    while views := await in_transaction(pool, partial(judge_views, networks=networks, offer=offer)):
        for view in views:
            JUDGED.labels(Kind.PAGE, view.judgement.class_).inc()
    return judged


def ripener(pool: Pool, fold: Fold, retell: Retell, networks: Networks, offer: Offer) -> Callable[[], Awaitable[int]]:
    """`ripen` as it is called again and again, with one memory of ranges."""
    return partial(ripen, pool, fold, retell=retell, networks=networks, ranges=Ranges(), offer=offer)


class _Batch(msgspec.Struct, frozen=True):
    """What one transaction did."""

    after: UUID | None = None  # where to go on; None: all is judged
    judged: int = 0
    folded: Sequence[datetime] = ()  # when the hits of people came
    late: AbstractSet[UUID] = frozenset()  # judged before, and of a sweep of one range, as is known now


async def _ripen_batch(
    conn: Connection, *, after: UUID, fold: Fold | None, networks: Networks, ranges: Ranges
) -> _Batch:
    settled = await store.settled_hits(conn, after)
    if not settled.ours:
        return _Batch()
    verdicts, swept = await _verdicts(conn, settled, networks, ranges, folded=fold is not None)
    whole = [one for one in verdicts if one.mode is Mode.FULL]
    old = await store.write_verdicts(conn, whole) if whole else set()
    signs = [sign for one in whole if one.hit.event_id not in old and (sign := _sign(one))] if fold else []
    if fold and signs:
        await fold(conn, signs)
    reduced = [
        Reduced(one.hit, one.judgement.class_, one.mode)
        for one in verdicts
        if one.judgement and one.mode is not Mode.FULL
    ]
    if reduced:
        await drop_hits(conn, [one.hit for one in reduced])
        await keep_reduced(conn, reduced)
    judged = Counter((one.hit.kind, one.judgement.class_) for one in verdicts if one.judgement)
    for labels, count in judged.items():
        JUDGED.labels(*labels).inc(count)
    late = swept.difference(one.hit.event_id for one in verdicts)
    further = settled.last if settled.hits == RIPE_BATCH else None
    return _Batch(further, judged.total(), [hit.at for hit in signs], late)


async def _void(conn: Connection, *, events: AbstractSet[UUID], retell: Retell) -> None:
    if void := await store.void_visits(conn, events):
        await retell(conn, sorted({*void, *await follow(conn, events)}))


async def _verdicts(
    conn: Connection, settled: store.Settled, networks: Networks, ranges: Ranges, *, folded: bool
) -> tuple[list[store.Verdict], set[UUID]]:
    """One for each hit that can be judged now; and all that are known to belong to a sweep of one range."""
    unjudged = await store.unjudged_hits(conn, settled.jobs)
    ripe = [
        (mail, hits)
        for mail in await store.mails_hit(conn, sorted(unjudged))
        if (hits := _ripe(unjudged[mail.job_id], _settle(mail), settled.heard_until))
    ]
    seen = await store.evidence(conn, [(mail, hits[0].at, hits[-1].at) for mail, hits in ripe])
    mails = {mail.job_id: about(mail) for mail, _ in ripe}
    sweeps = ranges.sweeps(
        visit
        for mail, hits in ripe
        if mail.contact_id
        for visit in visits(hits, mails[mail.job_id], mail.contact_id, networks, seen[mail.job_id])
    )
    verdicts: list[store.Verdict] = []
    for number, (mail, hits) in enumerate(ripe):
        if _may_be_swept(hits, sweeps, settled.heard_until - _settle(mail)):
            continue
        if number % SLICE == 0:
            await asyncio.sleep(0)  # who is being served meanwhile does not wait for all of them
        judgements: Sequence[Judgement | None] = [None] * len(hits)
        if mail.known:
            beside = [*seen[mail.job_id], *unjudged[mail.job_id][len(hits) :]]
            judgements = judge(hits, mails[mail.job_id], beside=beside, swept=sweeps.found, networks=networks)
        may_stay = mail.queued or not folded
        mode = Mode(mail.mode or Mode.NONE) if mail.known else Mode.FULL  # nobody is found behind what is not known
        for hit, judged in zip(hits, judgements, strict=True):
            earns = judged is not None and judged.class_ in EARNING
            verdicts.append(store.Verdict(hit, judged, mail, earns, earns and may_stay, mode))
    return verdicts, sweeps.found


def _may_be_swept(hits: Sequence[Hit], sweeps: Sweeps, until: datetime) -> bool:
    """Whether one of the hits looks like others of its range, and more like them may come."""
    return any(
        hit.at > until - SPAN and hit.event_id in sweeps.begun and hit.event_id not in sweeps.found for hit in hits
    )


def _sign(one: store.Verdict) -> store.Sign | None:
    """What the fold is to know of it; None where it counts for nobody, or waits for its mail."""
    hit, mail = one.hit, one.mail
    if not one.earns or one.stays or not mail.arrived or mail.stream_id is None or mail.contact_id is None:
        return None
    return store.Sign(
        hit.event_id, hit.job_id, hit.kind, hit.link_id, hit.at, mail.stream_id, mail.contact_id, mail.entry_id
    )


def about(mail: store.MailHit) -> Mail:
    """What its hits are judged by. A settle window that is shorter than usual makes everything quicker."""
    settle = _settle(mail)
    quickest = QUICKEST if settle >= DEFAULT_SETTLE else settle * (QUICKEST / DEFAULT_SETTLE)
    return Mail(mail.links, mail.dot_at, mail.accepted_at, mail.doubts, quickest)


def _settle(mail: store.MailHit) -> timedelta:
    return DEFAULT_SETTLE if mail.settle is None else mail.settle


def _ripe(hits: list[Hit], settle: timedelta, heard_until: datetime) -> list[Hit]:
    """Those of one mail's unjudged hits, in order of time, that can be judged now.

    The newest must be a settle window old. Who asks again and again is not waited for beyond
    twelve windows after the oldest: then all that is a window old is judged, for what could
    make a burst of it is in by then.
    """
    until = heard_until - settle
    if hits[-1].at <= until:
        return hits
    if hits[0].at + PATIENCE * settle > heard_until:
        return []
    return [hit for hit in hits if hit.at <= until]
