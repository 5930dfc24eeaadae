"""Purges and rebinds that go on for a while: what arrives meanwhile is treated like what waited.

A purge suspends what it names for its time, so that what comes begins nowhere before it is
found, and what workers hold comes back to be found. A rebind suspends nothing: mail that a
worker claims within the second before it is found goes where its domain says. The
housekeeper looks at what is new, by ids, for some seconds, since a lower one may be committed
later; and at the end once more at all of the queue.
"""

import logging
from collections.abc import Sequence
from datetime import datetime

import msgspec

from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction, row_values
from mtad.base.errors import InputError
from mtad.base.sqlfiles import queries
from mtad.ops import waiting
from mtad.ops.waiting import Done
from mtad.queue import suspensions
from mtad.queue.suspensions import Kind

SQL = queries("operate")

log = logging.getLogger("mtad.standing")


class Order(msgspec.Struct, frozen=True):
    """One that goes on. `to`: the site that mail is sent to instead; None: it is purged."""

    id: int
    verb: str  # purge or rebind
    kind: Kind
    key: str
    to: str | None
    until: datetime
    reason: str
    made_by: str
    made: datetime
    changed: int  # mails so far


class _Progress(msgspec.Struct, frozen=True):
    """What the housekeeper knows of one beside that."""

    site_id: int | None
    at_once: bool
    suspension_id: int | None
    passed: int
    ripe: bool  # what was seen is so old that nothing before it is still to come
    over: bool


async def orders(conn: Connection) -> list[Order]:
    """All that go on, oldest first."""
    return [order for order, _ in await _all(conn)]


async def _all(conn: Connection) -> list[tuple[Order, _Progress]]:
    rows = [list(row_values(row)) for row in await conn.fetch(SQL["standing_orders"])]
    return [(Order(*row[:10]), _Progress(*row[10:])) for row in rows]


async def order_purge(conn: Connection, kind: Kind, key: str, *, until: datetime, why: str, by: str) -> int:
    """From now on suspend and purge what this names, until then; the id. Call it before what locks later than lanes.

    The suspension has no end of its own: the last look may take long, or come late.

    What waits already is for the caller to purge, and to `count`; what it did not come to goes at the end.
    """
    held = await suspensions.suspend(conn, kind, key, until=None, reason=why, by=f"{by} (purge)")
    [(_, newest)] = await conn.fetch(SQL["ends_of_queue"])
    values = ("purge", kind, key, None, False, until, why, by, held.id, newest, 0)
    return int(await conn.fetchval(SQL["order_standing"], *values))


async def count(conn: Connection, order: int, changed: int) -> None:
    """So many more mails were changed for it by somebody else."""
    await conn.execute(SQL["advance_order"], order, 0, changed, False)


async def order_rebind(
    conn: Connection, kind: Kind, key: str, *, site: int, at_once: bool, until: datetime, why: str, by: str, done: Done
) -> int:
    """Go on with a rebind that has come as far as `done` until then; the id."""
    values = ("rebind", kind, key, site, at_once, until, why, by, None, done.newest, done.changed)
    return int(await conn.fetchval(SQL["order_standing"], *values))


async def end(conn: Connection, *, ids: Sequence[int] = (), held: Sequence[int] = (), by: str) -> list[int]:
    """Go on no longer with these, or those that these suspensions belong to, and hold nothing for them; which."""
    rows = await conn.fetch(SQL["end_orders"], ids, held)
    for row in rows:
        if row[1] is not None:
            await suspensions.lift(conn, id_=row[1], by=by)
    return [row[0] for row in rows]


async def go_on(pool: Pool, config: Config) -> int:
    """Treat what is new; end what is over. How many mails were changed. A sweep."""
    async with pool.acquire() as conn:
        standing = await _all(conn)
    changed = 0
    for order, progress in standing:
        changed += await _go_on(pool, config, order, progress)
    return changed


async def _go_on(pool: Pool, config: Config, order: Order, progress: _Progress) -> int:
    # Mail that a worker gave back, or that got its site late, has a low id: at the end all are looked at.
    after = 0 if progress.over else progress.passed
    done = Done(0, 0)
    try:
        async with pool.acquire() as conn:
            chosen = await waiting.selection(conn, config, order.kind, order.key)
    except InputError as error:
        log.warning("standing order has nothing to do", extra={"id": order.id, "why": str(error)})
    else:
        if progress.site_id is None:
            steps = waiting.purge(pool, chosen, f"{order.reason} ({order.made_by})", after=after)
        else:
            steps = waiting.rebind(pool, chosen, progress.site_id, at_once=progress.at_once, after=after)
        async for step in steps:
            done = step

    async def write(conn: Connection) -> None:
        if progress.over:
            await end(conn, ids=[order.id], by="its end")
        else:
            await conn.execute(SQL["advance_order"], order.id, done.newest, done.changed, progress.ripe)

    await in_transaction(pool, write)
    return done.changed
