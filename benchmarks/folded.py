"""Whether each hit was folded, and once: what the engine has of people beside a replay of all that is known of them.

The engine folds hits as they are judged; a replay begins anew from the events. A hit that was folded
twice, or not at all, makes the two differ: in the score, the state, the log, or the answers.
"""

import asyncio
import time

import msgspec

from engine.score import Key
from engine.store import lock_gates
from engine.tell import tell
from mtad.base.db import Connection, Pool
from mtad.base.errors import Problem

# How long judging and folding may take to catch up, seconds.
_PATIENCE = 300.0

_PEOPLE = """
select stream_id, contact_id from engagement where (stream_id, contact_id) > ($1, $2) order by 1, 2 limit 500
"""
_ANSWERS = """
select stream_id, contact_id, array_agg((job_id, kind, event_id, points)::text order by job_id, kind)
  from answer where contact_id = any($1::bigint[]) group by 1, 2
"""


class Folded(msgspec.Struct, frozen=True):
    """What is there, once nothing waits."""

    answers: int  # first opens and first clicks of mails
    wrong: int  # people of whom a replay says something else


async def until_folded(pool: Pool) -> None:
    """Wait until every hit is judged, and people's are folded. Problem when they never are."""
    began = time.monotonic()
    while await pool.fetchval("select exists (select from pending)"):
        if time.monotonic() - began > _PATIENCE:
            raise Problem(f"the fold is still behind after {_PATIENCE:g} s")
        await asyncio.sleep(0.1)


async def folded(pool: Pool) -> Folded:
    """Replay everybody, compare, and undo it."""
    wrong = 0
    last: Key = (0, 0)
    while people := [(row[0], row[1]) for row in await pool.fetch(_PEOPLE, *last)]:
        async with pool.acquire() as conn:
            replay = conn.transaction()
            await replay.start()
            try:
                wrong += await _wrong(conn, people)
            finally:
                await replay.rollback()
        last = people[-1]
    return Folded(await pool.fetchval("select count(*) from answer"), wrong)


async def _wrong(conn: Connection, people: list[Key]) -> int:
    contacts = [contact for _, contact in people]
    await lock_gates(conn, contacts)
    before = await _answers(conn, contacts)
    told = await tell(conn, dict.fromkeys(people, ()), again=True)
    after = await _answers(conn, contacts)
    return sum(
        one.before.row != one.after.row or bool(one.changes) or before.get(key) != after.get(key)
        for key, one in told.items()
    )


async def _answers(conn: Connection, contacts: list[int]) -> dict[Key, list[str]]:
    return {(row[0], row[1]): row[2] for row in await conn.fetch(_ANSWERS, contacts)}
