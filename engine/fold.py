"""Fold: what people did to their mail becomes score, state and the end of entries.

Each hit is folded once: in the transaction that judges it, or, where its mail was still
queued then, in the one in which it leaves `pending`. Two folds at once have different hits,
and those of one contact wait for each other at its gate row.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from engine import store
from engine.policy import Policy
from engine.score import Hit, Key, fold_hits
from engine.states import Row
from engine.store import Arrived, Sign
from mtad.base.db import Connection, Pool, in_transaction

# The literal limit of the query take_hits.
BATCH = 500

# Triggered and bulk; transactional mail goes on whatever somebody's state is.
ADVERTISING = 1


async def fold(pool: Pool) -> int:
    """Fold every hit in `pending` that is judged a person's and whose mail has ended, in batches; how many.

    A hit whose mail is still queued stays for a later fold.
    """
    total = 0
    while True:
        taken = await in_transaction(pool, _fold_batch)
        total += taken
        if taken < BATCH:
            return total


async def _fold_batch(conn: Connection) -> int:
    taken = await store.take_hits(conn)
    if taken:
        await fold_signs(conn, taken)
        await store.drop_hits(conn, [row.event_id for row in taken])
    return len(taken)


async def fold_signs(conn: Connection, signs: Sequence[Sign]) -> None:
    """Fold people's hits on mails that have ended, in the caller's transaction, which holds no gate.

    One whose mail never arrived, or whose contact may not be measured, counts for nobody.
    """
    mails = await store.mails_that_arrived(conn, {sign.job_id for sign in signs})
    messages = await store.messages(conn, {mail.message_id for mail in mails.values()})
    positions = await store.positions(conn, {sign.link_id for sign in signs if sign.kind == "click"})
    streams = await store.current_streams(conn, {mail.stream_id for mail in mails.values()})
    hits: list[Hit] = []
    for sign in signs:
        mail = mails.get(sign.job_id)
        if mail is None or mail.contact_id is None or mail.message_id not in messages:
            continue
        if (mail.tracking or streams[mail.stream_id].tracking) == "full":
            node, class_ = messages[mail.message_id]
            hits.append(_hit(sign, mail, mail.contact_id, class_, _fact(sign, node, positions.get(sign.link_id))))
    if hits:
        await _fold_hits(conn, hits, {stream: definition.policy for stream, definition in streams.items()})


async def _fold_hits(conn: Connection, hits: Sequence[Hit], policies: Mapping[int, Policy]) -> None:
    """Everything from the first lock on: what others wait for."""
    exist = await store.lock_gates(conn, {hit.contact_id for hit in hits})
    hits = [hit for hit in hits if hit.contact_id in exist]
    since: dict[Key, datetime] = {}
    for hit in hits:
        since[hit.key] = min(since.get(hit.key, hit.at), hit.at, hit.delivered_at)
    rows = await store.lock_engagements(conn, since)
    if missing := [(key, at) for key, at in since.items() if key not in rows]:
        await store.add_engagements(conn, missing)
        rows |= await store.lock_engagements(conn, [key for key, _ in missing])
    folded = fold_hits(
        hits, rows=rows, answered=await store.answered(conn, {hit.job_id for hit in hits}), policies=policies
    )
    moved = {key for key, _ in folded.transitions}
    told = {key: row for key, row in folded.rows.items() if key in moved or not _only_heard(rows.get(key), row)}
    if told:
        await store.write_engagements(conn, told, moved)
    if heard := {key: row for key, row in folded.rows.items() if key not in told}:
        await store.write_signs(conn, heard)
    if folded.transitions:
        await store.add_transitions(conn, folded.transitions)
    left: set[Key] = await store.leave(conn, folded.leaves) if folded.leaves else set()
    if disturbed := moved | left:
        await store.raise_gates(conn, [contact for _, contact in disturbed])
        await store.wake_jobs(conn, [(stream, contact, ADVERTISING) for stream, contact in disturbed])
    if folded.answers:
        await store.add_answers(conn, folded.answers)


def _only_heard(before: Row | None, after: Row) -> bool:
    """Whether no more than score and last sign changed, as for most: half the work of writing all."""
    return before is not None and after == msgspec.structs.replace(before, score=after.score, last_sign=after.last_sign)


def _hit(sign: Sign, mail: Arrived, contact_id: int, class_: int, fact: str) -> Hit:
    return Hit(
        event_id=sign.event_id,
        job_id=sign.job_id,
        kind="open" if sign.kind == "open" else "click",
        link_id=sign.link_id,
        at=sign.at,
        stream_id=mail.stream_id,
        contact_id=contact_id,
        entry_id=mail.entry_id,
        class_=class_,
        delivered_at=mail.ended,
        fact=fact,
    )


def _fact(sign: Sign, node: str, position: int | None) -> str:
    """For people: 'click on link 3 of nudge-2, job 17'."""
    what = f"open of {node}" if sign.kind == "open" else f"click on link {position} of {node}"
    return f"{what}, job {sign.job_id}"
