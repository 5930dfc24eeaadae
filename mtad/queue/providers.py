"""SQL of what holds for all sites of a provider together, sql/queries/provider.sql: sessions and mails a second."""

from collections.abc import Sequence

import msgspec

from mtad.base.db import Connection
from mtad.base.sqlfiles import queries

SQL = queries("provider")


class Pace(msgspec.Struct, frozen=True, gc=False):
    """A mail that wants to go from a source to a provider, and how many may."""

    source: str
    provider: str
    rate: float  # a second
    burst: float


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Sessions that a worker wants to have from a source to all sites of a provider."""

    source: str
    provider: str
    wanted: int
    running: int  # it cannot hold fewer
    most: int  # all workers together


async def know(conn: Connection, keys: Sequence[tuple[str, str]]) -> None:
    """Before anything else is asked for these sources and providers; forgets what dead workers held."""
    await conn.execute(SQL["drop_provider_sessions"])
    await conn.execute(SQL["know_providers"], [key[0] for key in keys], [key[1] for key in keys])


async def take_paces(conn: Connection, paces: Sequence[Pace]) -> list[float]:
    """For each the seconds to wait until it may ask again; 0: it may go now, and that is counted."""
    columns = ([getattr(pace, name) for pace in paces] for name in Pace.__struct_fields__)
    return [row[0] for row in await conn.fetch(SQL["take_paces"], *columns)]


async def hold(conn: Connection, worker: int, wishes: Sequence[Hold]) -> list[int]:
    """For each how many this worker may have now; in a transaction, and at most one wish a source and provider."""
    columns = [[getattr(wish, name) for wish in wishes] for name in Hold.__struct_fields__]
    await conn.execute(SQL["lock_providers"], *columns[:2])
    return [row[0] for row in await conn.fetch(SQL["hold_of_providers"], worker, *columns)]
