"""Limits of lanes that hold for a while, over the configured ones: set by rules on replies, undone by hand.

The lowest holds. A rate, and how many sessions all workers may open, stand in the lane's
row, which begin and hold_sessions read: every worker sees them at once. What a worker does
with the sessions it has, it asks `in_force` for, each second.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from mtad.base.config import rate
from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries

SQL = queries("suspend")


class LaneLimit(msgspec.Struct, frozen=True):
    """One that is in force."""

    id: int
    lane_id: int
    lane: str  # source/site
    knob: str
    value: str
    until: datetime
    reason: str
    made_by: str
    made: datetime


class InForce(msgspec.Struct, frozen=True):
    """What the sessions of one worker in a lane have to keep to; None: as configured."""

    sessions: int | None = None  # what the workers before it leave of the limit
    max_deliveries_per_connection: int | None = None


async def set_limit(
    conn: Connection, lane_id: int, knob: str, value: str, *, until: datetime, reason: str, by: str
) -> None:
    """From the commit on, on every worker. Locks the lane."""
    if knob == "max_message_rate":
        allowed = rate(value)
        most, burst = allowed.per_second, allowed.burst
    else:
        most, burst = float(value), 0.0
    await conn.execute(SQL["limit_lane"], lane_id, knob, value, most, burst, until, reason, by)
    await conn.execute(SQL["apply_limits"], [lane_id])


async def limits(conn: Connection) -> list[LaneLimit]:
    """All that are in force, oldest first."""
    return [LaneLimit(*row_values(row)) for row in await conn.fetch(SQL["lane_limits"])]


async def undo(conn: Connection, ids: Sequence[int]) -> list[int]:
    """Take limits back, whoever set them; the ids of those that there were."""
    rows = await conn.fetch(SQL["unlimit"], ids)
    await conn.execute(SQL["apply_limits"], [row[1] for row in rows])
    return [row[0] for row in rows]


async def undo_lapsed(conn: Connection) -> int:
    """Give lanes back what limits whose time is over kept from them; how many limits."""
    lanes = [row[0] for row in await conn.fetch(SQL["lapsed_limits"])]
    if lanes:
        await conn.execute(SQL["apply_limits"], lanes)
    return len(lanes)


async def in_force(conn: Connection, worker: int) -> dict[int, InForce]:
    """By lane."""
    return {row[0]: InForce(row[1], row[2]) for row in await conn.fetch(SQL["limits_in_force"], worker)}
