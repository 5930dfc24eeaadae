"""Fold: what people did to their mail becomes score, state and the end of entries.

Each hit is folded once: in the transaction that judges it, or, where its mail was still
queued then, in the one in which it leaves `pending`. Two folds at once have different hits,
and those of one contact wait for each other at its gate row.
"""

from collections.abc import Mapping, Sequence

import msgspec

from engine import store
from engine.policy import Policy
from engine.replay import Fact
from engine.score import Hit, Key, once, sign
from engine.store import Arrived, Sign
from engine.tell import ADVERTISING, tell
from mtad.base.db import Connection, Pool, in_transaction

__all__ = ["ADVERTISING", "fold", "fold_signs"]

# The literal limit of the query take_hits.
BATCH = 500


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
    streams = await store.current_streams(conn, {mail.stream_id for mail in mails.values()})
    hits: list[Hit] = []
    for one in signs:
        mail = mails.get(one.job_id)
        if mail and mail.contact_id is not None and (mail.tracking or streams[mail.stream_id].tracking) == "full":
            hits.append(_hit(one, mail, mail.contact_id))
    if hits:
        positions = await store.positions(conn, {hit.link_id for hit in hits if hit.kind == "click"})
        hits = [msgspec.structs.replace(hit, position=positions.get(hit.link_id, 0)) for hit in hits]
        await _fold_hits(conn, hits, {stream: definition.policy for stream, definition in streams.items()})


async def _fold_hits(conn: Connection, hits: Sequence[Hit], policies: Mapping[int, Policy]) -> None:
    """Everything from the first lock on: what others wait for."""
    exist = await store.lock_gates(conn, {hit.contact_id for hit in hits})
    hits = [hit for hit in hits if hit.contact_id in exist]
    facts: dict[Key, list[Fact]] = {}
    known: dict[str, Hit] = {}
    for hit in hits:
        fact = sign(hit, policies[hit.stream_id])
        known[fact.id] = hit
        facts.setdefault(hit.key, []).append(fact)
    answered = {once(job, kind) for job, kind in await store.answered(conn, {hit.job_id for hit in hits})}
    await tell(conn, facts, policies=policies, answered=answered, hits=known, make=True)


def _hit(one: Sign, mail: Arrived, contact_id: int) -> Hit:
    return Hit(
        event_id=one.event_id,
        job_id=one.job_id,
        kind="open" if one.kind == "open" else "click",
        link_id=one.link_id,
        at=one.at,
        stream_id=mail.stream_id,
        contact_id=contact_id,
        entry_id=mail.entry_id,
        class_=mail.class_,
        delivered_at=mail.ended,
        node=mail.node,
        position=0,
        reactivation=mail.reactivation,
    )
