"""Fold: what people did to their mail becomes score, state and the end of entries.

Each hit is folded once: in the transaction that judges it, or, where its mail was still
queued then, in the one in which it leaves `pending`. Two folds at once have different hits,
and those of one contact wait for each other at its gate row.
"""

from collections.abc import Sequence

from engine import past as tables
from engine import store
from engine.replay import Fact
from engine.score import Hit, Key, once, sign
from engine.store import Mail, Sign
from engine.tell import ADVERTISING, Policies, tell
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

    One whose mail never arrived, or whose contact may not be measured, counts for nobody. Most
    do no more than add points: of these one statement writes all. The others are told to the machine.
    """
    mails = await store.lock_signs(conn, {sign.job_id for sign in signs})
    streams = await store.current_streams(conn, {mail.stream_id for mail in mails.values()}) if mails else {}
    counted = [
        (sign, mail)
        for sign in signs
        if (mail := mails.get(sign.job_id)) and (mail.tracking or streams[mail.stream_id].tracking) == "full"
    ]
    if not counted:
        return
    policies = {id_: stream.policy for id_, stream in streams.items()}
    left = await store.fold_plain(conn, counted, policies, await tables.heard(conn))
    if left:
        await _tell(conn, left, policies)


async def _tell(conn: Connection, signs: Sequence[tuple[Sign, Mail]], policies: Policies) -> None:
    jobs = {sign.job_id for sign, _ in signs}
    nodes = await store.nodes_of(conn, jobs)
    positions = await store.positions(conn, {sign.link_id for sign, _ in signs if sign.kind == "click"})
    facts: dict[Key, list[Fact]] = {}
    hits: dict[str, Hit] = {}
    for one, mail in signs:
        position = positions.get(one.link_id, 0) if one.kind == "click" else 0
        hit = _hit(one, mail, position, *nodes[one.job_id])
        fact = sign(hit, policies[hit.stream_id])
        hits[fact.id] = hit
        facts.setdefault(hit.key, []).append(fact)
    answered = {once(job, kind) for job, kind in await store.answered(conn, jobs)}
    await tell(conn, facts, policies=policies, answered=answered, hits=hits, make=True)


def _hit(one: Sign, mail: Mail, position: int, node: str, reactivation: bool) -> Hit:
    return Hit(
        event_id=one.event_id,
        job_id=one.job_id,
        kind="open" if one.kind == "open" else "click",
        link_id=one.link_id,
        at=one.at,
        stream_id=mail.stream_id,
        contact_id=mail.contact_id,
        entry_id=mail.entry_id,
        node=node,
        position=position,
        reactivation=reactivation,
    )
