"""SQL of new connections, sql/queries/dial.sql: no more of them than a lane may open, over all workers."""

from collections.abc import Sequence

import msgspec

from mtad.base.db import Connection
from mtad.base.sqlfiles import queries

SQL = queries("dial")


class Dial(msgspec.Struct, frozen=True, gc=False):
    """A connection that somebody wants to open, and how many the lane may."""

    lane_id: int
    rate: float  # a second
    burst: float


async def take_dials(conn: Connection, dials: Sequence[Dial]) -> list[float]:
    """For each the seconds to wait until it may ask again; 0: it may open one now, and that is counted."""
    columns = ([getattr(dial, name) for dial in dials] for name in Dial.__struct_fields__)
    return [row[0] for row in await conn.fetch(SQL["take_dials"], *columns)]
