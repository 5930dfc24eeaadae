"""Sweeps: what time alone does to contacts on streams, up to the moment to which we have heard.

Rows are found by `wake_at`, in batches, so none is read that is not due. What changes no
state is written at once. Whoever would change waits for the end of the sweep, for it is
stopped if it would pause too many: then the fault is more likely ours than theirs, and
nobody is paused until an operator has looked. A sweep that is interrupted is taken up by
the next one, at the rows that are still due.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

import msgspec
from prometheus_client import Gauge

from engine import past as tables
from engine import store
from engine.listening import HELD as PROVIDERS_HELD
from engine.listening import holds, listen, recall_page
from engine.rows import FIRST, Kept, bases, take_due
from engine.score import Key
from engine.silence import may_pause
from engine.tell import LATEST, Told, judged, policies_of, tell, write
from mtad.base.db import Connection, Pool, in_transaction, row_values
from mtad.base.sqlfiles import queries

SQL = queries("engine")

log = logging.getLogger("engine.sweep")

HELD = Gauge("mtad_sweeps_held", "Streams whose sweeps would have paused too many and wait for `mtad audience release`")

# Rows of one transaction: the literal limit of the query take_due, and those whose gates are locked.
BATCH = 1000
GATES = 500

# So many of one stream change their state in one sweep; the others in the next.
MOST = 50_000

# Transitions that a sweep makes of silence.
PAUSES = frozenset({"attempts", "days"})


class Braked(msgspec.Struct, frozen=True):
    """A stream whose sweeps are held."""

    stream: str
    since: datetime
    silent: int  # would have been paused
    allowed: int
    reachable: int


class _Batch(msgspec.Struct):
    """What one transaction found."""

    read: int
    changed: int
    last: tuple[datetime, int]
    moving: dict[Key, datetime | None]  # when silence would pause them; None: they move for another reason


async def sweep(pool: Pool) -> int:
    """Conclude what is to be concluded from silence, on every stream that is not held; how many rows changed."""
    async with pool.acquire() as conn:
        heard = await tables.heard(conn)
        streams = [row[0] for row in await conn.fetch(SQL["swept_streams"], heard)]
        on = await tables.heard_on(conn, streams, heard)
        HELD.set(len(await brakes(conn)))
        PROVIDERS_HELD.set(len(await holds(conn)))
    return sum([await _sweep_stream(pool, stream, on[stream]) for stream in streams])


async def _sweep_stream(pool: Pool, stream: int, heard: datetime) -> int:
    await in_transaction(pool, partial(_listen, stream=stream, heard=heard))
    while await in_transaction(pool, partial(recall_page, stream=stream)):
        pass
    changed, after = 0, FIRST
    moving: dict[Key, datetime | None] = {}
    while len(moving) < MOST:
        batch = await in_transaction(pool, partial(_batch, stream=stream, heard=heard, after=after))
        changed, after = changed + batch.changed, batch.last
        moving |= batch.moving
        if batch.read < BATCH:
            break
    if not moving:
        return changed
    going = await in_transaction(pool, partial(_allowed, stream=stream, moving=moving))
    for first in range(0, len(going), GATES):
        await in_transaction(pool, partial(_move, keys=going[first : first + GATES]))
    return changed + len(going)


async def _listen(conn: Connection, *, stream: int, heard: datetime) -> None:
    await listen(conn, stream, (await policies_of(conn, {stream}))[stream], heard)


async def _batch(conn: Connection, *, stream: int, heard: datetime, after: tuple[datetime, int]) -> _Batch:
    """Write what changes no state; say who would change theirs."""
    rows = await take_due(conn, stream, heard, after)
    if not rows:
        return _Batch(0, 0, after, {})
    policies, old = await policies_of(conn, {stream}), await _old(conn, rows, heard)
    told = await judged(
        conn, {key: kept for key, kept in rows.items() if key not in old}, {}, policies, {stream: heard}
    )
    if old:
        told |= await judged(conn, {key: rows[key] for key in old}, {}, policies, {stream: heard}, again=True)
    still = {key: one for key, one in told.items() if not one.changes and (one.after != one.before or one.base)}
    if still:
        await write(conn, still, {})
    last = max((kept.wake_at, key[1]) for key, kept in rows.items() if kept.wake_at)
    return _Batch(len(rows), len(still), last, {key: _pauses(one) for key, one in told.items() if one.changes})


async def _old(conn: Connection, rows: Mapping[Key, Kept], heard: datetime) -> set[Key]:
    """Whose replays begin too long ago: they are replayed for a new base, while what they are made from is kept."""
    before = heard - 2 * LATEST
    asked = {key for key, kept in rows.items() if kept.row.first_sent is not None and kept.row.first_sent < before}
    found = await bases(conn, asked) if asked else {}
    return {key for key in asked if key not in found or found[key].told < before}


def _pauses(one: Told) -> datetime | None:
    return next((move.at for move in one.moves if move.why in PAUSES), None)


async def _move(conn: Connection, *, keys: Sequence[Key]) -> None:
    await store.lock_gates(conn, {contact for _, contact in keys})
    await tell(conn, dict.fromkeys(keys, ()))


async def _allowed(conn: Connection, *, stream: int, moving: Mapping[Key, datetime | None]) -> list[Key]:
    """Whom the brake lets go: all, or nobody who would be paused."""
    policy = (await policies_of(conn, {stream}))[stream]
    (row,) = await conn.fetch(SQL["brake_of"], stream, policy.day)
    released, counted, reachable, lately = row_values(row)
    silent = sum(at is not None and at > released for at in moving.values())
    if lately + silent > policy.brake.least and not counted:
        reachable = lately + await conn.fetchval(SQL["reachable"], stream)
        await conn.execute(SQL["count_reachable"], stream, reachable)
    allowed = may_pause(policy.brake, reachable=reachable, paused=lately)
    if silent <= allowed:
        return sorted(moving)
    await conn.execute(SQL["stop_sweeps"], stream, silent, allowed)
    log.warning(
        "silence is not believed: too many would be paused", extra={"stream": stream, "silent": silent, "of": allowed}
    )
    return sorted(key for key, at in moving.items() if at is None)


async def brakes(conn: Connection) -> list[Braked]:
    """Streams whose sweeps are held, by name."""
    return [Braked(*row_values(row)) for row in await conn.fetch(SQL["brakes"])]


async def release_brake(conn: Connection, stream: str, by: str) -> int | None:
    """Believe the silence of a stream up to now: so many will be paused; None where nothing is held."""
    found: int | None = await conn.fetchval(SQL["release_brake"], stream, by)
    return found
