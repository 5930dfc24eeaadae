"""Reactivations that ended without an answer or a silence: cancelled, bounced, out of the audience.

Whoever is still trying and has no way left goes back to cooling, with the cool-down over.
"""

from engine import store
from engine.history import ended
from engine.replay import Fact
from engine.score import Key
from engine.states import Kind
from engine.tell import tell
from mtad.base.db import Connection, Pool, in_transaction

# The literal limit of the query stranded_ways.
BATCH = 1000


async def stop_stranded(pool: Pool) -> int:
    """Have those go back who try without a way to be on, in batches; how many."""
    total = 0
    while True:
        moved = await in_transaction(pool, _stop_batch)
        total += moved
        if moved < BATCH:
            return total


async def _stop_batch(conn: Connection) -> int:
    ways = await store.stranded_ways(conn)
    if not ways:
        return 0
    await store.lock_gates(conn, {way.contact_id for way in ways})
    facts: dict[Key, list[Fact]] = {
        (way.stream_id, way.contact_id): [ended(Kind.REACTIVATION_STOPPED, way.id, way.program, way.entered, way.ended)]
        for way in ways
    }
    await tell(conn, facts)
    return len(facts)
