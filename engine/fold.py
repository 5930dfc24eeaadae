"""Fold: what people did to their mail becomes score, state and the end of entries.

Each hit is folded once: in the transaction that judges it, or, where its mail was still
queued then, in the one in which it leaves `pending`. Two folds at once have different hits,
and those of one contact wait for each other at its row, or at its gate where it has none.
"""

from collections.abc import Sequence

from engine import past as tables
from engine import store
from engine.replay import Fact
from engine.rows import lock_rows
from engine.score import Hit, Key, once, sign
from engine.store import Sign
from engine.tell import ADVERTISING, Policies, policies_of, tell
from mtad.base.db import Connection, Pool, in_transaction

__all__ = ["ADVERTISING", "fold", "fold_signs"]

# The literal limit of the query take_hits.
BATCH = 1000


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
        await fold_signs(conn, [one for one in taken if one.contact_id])
        await store.drop_hits(conn, [row.event_id for row in taken])
    return len(taken)


async def fold_signs(conn: Connection, signs: Sequence[Sign]) -> None:
    """Fold people's hits on mails that have ended, in the caller's transaction, which holds no gate.

    Most do no more than add points: of these one statement writes all. The others are told to the machine.
    """
    policies = await policies_of(conn, {sign.stream_id for sign in signs})
    gates, left = await _write_plain(conn, signs, policies)
    if left := [sign for sign in left if sign.contact_id in gates]:
        await _tell(conn, left, policies)


async def _write_plain(conn: Connection, signs: Sequence[Sign], policies: Policies) -> tuple[set[int], list[Sign]]:
    """Whose gates are locked now, and the signs that are left, of contacts whose gates and rows, if any, all are.

    Where one of those is not free all is undone, to a savepoint, and seen anew behind a wait for them: what
    a look before a wait says is too old after it, and to wait behind rows would be a deadlock with whoever
    holds a gate, or a row before them, and wants one of them.
    """
    heard = await tables.heard(conn)
    wanted: set[Key] = set()
    gates: set[int] = set()
    while True:
        looked = conn.transaction()
        await looked.start()
        if wanted:
            gates = await store.lock_gates(conn, {contact for _, contact in wanted})
            await lock_rows(conn, wanted)
        free, left = await store.fold_plain(conn, signs, policies, heard)
        if all(one.contact_id in free or (one.stream_id, one.contact_id) in wanted for one in left):
            await looked.commit()
            return gates | free, left
        await looked.rollback()
        wanted |= {(one.stream_id, one.contact_id) for one in left}


async def _tell(conn: Connection, signs: Sequence[Sign], policies: Policies) -> None:
    jobs = {sign.job_id for sign in signs}
    nodes = await store.nodes_of(conn, jobs)
    positions = await store.positions(conn, {sign.link_id for sign in signs if sign.kind == "click"})
    facts: dict[Key, list[Fact]] = {}
    hits: dict[str, Hit] = {}
    for one in signs:
        hit = _hit(one, positions.get(one.link_id, 0) if one.kind == "click" else 0, *nodes[one.job_id])
        fact = sign(hit, policies[hit.stream_id])
        hits[fact.id] = hit
        facts.setdefault(hit.key, []).append(fact)
    answered = {once(job, kind) for job, kind in await store.answered(conn, jobs)}
    await tell(conn, facts, policies=policies, answered=answered, hits=hits, make=True)


def _hit(one: Sign, position: int, node: str, reactivation: bool) -> Hit:
    return Hit(
        event_id=one.event_id,
        job_id=one.job_id,
        kind="open" if one.kind == "open" else "click",
        link_id=one.link_id,
        at=one.at,
        stream_id=one.stream_id,
        contact_id=one.contact_id,
        entry_id=one.entry_id,
        node=node,
        position=position,
        reactivation=reactivation,
    )
