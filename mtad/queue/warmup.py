"""What a day's plan of a warming source still holds, shared by all workers: sql/queries/warmup.sql."""

from collections.abc import Callable
from datetime import date

import msgspec

from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries
from mtad.source.warmup import Day, Step

SQL = queries("warmup")


class WarmupDay(msgspec.Struct, frozen=True):
    """The last day of a source with a provider."""

    source: str
    provider: str
    day: date
    step: int
    allowed: int | None
    granted: int
    deferred: int
    complaints: int
    held: str


async def grant(
    conn: Connection, source: str, provider: str, day: date, wanted: int, deferred: int,
    next_step: Callable[[Day | None], Step],
) -> int | None:  # fmt: skip
    """Up to `wanted` further mails (below 0: give back), None without a limit. Opens the day where it is not."""
    while (row := await conn.fetchrow(SQL["grant_mails"], source, provider, day, wanted, deferred)) is None:
        found = await conn.fetchrow(SQL["last_day"], source, provider, day)
        last = Day(*row_values(found)) if found else None
        step = next_step(last)
        complaints = last.complaints if last else 0
        await conn.execute(
            SQL["open_day"], source, provider, day, step.step, step.allowed, complaints, step.held
        )  # fmt: skip
    return None if row[1] else int(row[0])


async def days(conn: Connection) -> list[WarmupDay]:
    """Of each source and provider the last."""
    return [WarmupDay(*row_values(row)) for row in await conn.fetch(SQL["warmup_days"])]
