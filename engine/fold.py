"""Fold: what people did to their mail becomes score, state and the end of entries.

Each hit is folded once: it leaves `pending` in the transaction that folds it. Two folds
at once take different hits, and those of one contact wait for each other at its gate row.
"""

from collections.abc import Sequence
from datetime import datetime

from engine import store
from engine.score import Hit, Key, fold_hits
from engine.store import Taken
from mtad.base.db import Connection, Pool, in_transaction

# The literal limit of the query take_hits.
BATCH = 500

# Triggered and bulk; transactional mail goes on whatever somebody's state is.
ADVERTISING = 1


async def fold(pool: Pool) -> int:
    """Fold every hit that is judged a person's and whose mail has ended, in batches; how many.

    A hit whose mail is still queued stays for a later fold. One whose mail never arrived,
    or whose contact may not be measured, is dropped: its event is kept.
    """
    total = 0
    while True:
        taken = await in_transaction(pool, _fold_batch)
        total += taken
        if taken < BATCH:
            return total


async def _fold_batch(conn: Connection) -> int:
    taken = await store.take_hits(conn)
    hits = [hit for row in taken if (hit := _hit(row))]
    if hits:
        await _fold_hits(conn, hits)
    if taken:
        await store.drop_hits(conn, [row.event_id for row in taken])
    return len(taken)


async def _fold_hits(conn: Connection, hits: Sequence[Hit]) -> None:
    exist = await store.lock_gates(conn, [hit.contact_id for hit in hits])
    hits = [hit for hit in hits if hit.contact_id in exist]
    since: dict[Key, datetime] = {}
    for hit in hits:
        since[hit.key] = min(since.get(hit.key, hit.at), hit.at, hit.delivered_at)
    await store.add_engagements(conn, list(since.items()))
    rows = await store.lock_engagements(conn, since)
    streams = await store.current_streams(conn, {hit.stream_id for hit in hits})
    folded = fold_hits(
        hits,
        rows=rows,
        answered=await store.answered(conn, {hit.job_id for hit in hits}),
        policies={stream: definition.policy for stream, definition in streams.items()},
    )
    moved = {key for key, _ in folded.transitions}
    await store.write_engagements(conn, folded.rows, moved)
    if folded.transitions:
        await store.add_transitions(conn, folded.transitions)
    left: set[Key] = await store.leave(conn, folded.leaves) if folded.leaves else set()
    if disturbed := moved | left:
        await store.raise_gates(conn, [contact for _, contact in disturbed])
        await store.wake_jobs(conn, [(stream, contact, ADVERTISING) for stream, contact in disturbed])
    if folded.answers:
        await store.add_answers(conn, folded.answers)


def _hit(row: Taken) -> Hit | None:
    """A pending row as the engine counts it; None when it counts for nobody."""
    if (
        row.contact_id is None
        or row.stream_id is None
        or row.class_ is None
        or row.delivered_at is None
        or not row.measured
    ):
        return None
    return Hit(
        event_id=row.event_id,
        job_id=row.job_id,
        kind="open" if row.kind == "open" else "click",
        link_id=row.link_id,
        at=row.at,
        stream_id=row.stream_id,
        contact_id=row.contact_id,
        entry_id=row.entry_id,
        class_=row.class_,
        delivered_at=row.delivered_at,
        fact=_fact(row),
    )


def _fact(row: Taken) -> str:
    """For people: 'click on link 3 of nudge-2, job 17'."""
    what = f"open of {row.node}" if row.kind == "open" else f"click on link {row.position} of {row.node}"
    return f"{what}, job {row.job_id}"
