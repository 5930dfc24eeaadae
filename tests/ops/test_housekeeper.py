"""The housekeeper goes on sweeping whatever one sweep does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from mtad.base.clock import SystemClock
from mtad.base.db import Pool
from mtad.ops.housekeeper import Housekeeper, Sweep


class HastyClock(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class OnePool:
    """Gives the lock to whoever asks; counts how often."""

    asked = 0

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        yield self

    async def fetchval(self, sql: str, *arguments: object) -> bool:
        self.asked += "pg_try_advisory_lock" in sql
        return True

    async def execute(self, sql: str, *arguments: object) -> None: ...

    def is_closed(self) -> bool:
        return False


async def test_a_defect_in_one_sweep_stops_neither_the_others_nor_the_worker() -> None:
    runs = {"bad": 0, "good": 0}
    enough = asyncio.Event()
    pool = OnePool()

    async def ran(name: str) -> None:
        runs[name] += 1
        if min(runs.values()) >= 3:
            enough.set()

    async def bad() -> int:
        await ran("bad")
        raise KeyError("a program that is not there")

    async def good() -> int:
        await ran("good")
        return 0

    keeper = Housekeeper(cast(Pool, pool), HastyClock(), [Sweep("good", 1.0, good), Sweep("bad", 1.0, bad)])
    async with asyncio.TaskGroup() as group:
        running = group.create_task(keeper.run())
        await enough.wait()
        running.cancel()

    assert pool.asked == 1
