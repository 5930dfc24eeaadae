"""The housekeeper goes on sweeping whatever one sweep does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from mtad.base.clock import SystemClock
from mtad.base.db import Pool
from mtad.ops.housekeeper import Housekeeper, Sweep, rest_of


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


@pytest.mark.parametrize(
    ("whole", "moved", "took", "rest"),
    [
        (False, 0, 0.01, 0.3),
        (False, 0, 0.1, 3.0),  # what takes long is no more than a share
        (False, 0, 9.0, 5.0),
        (False, 7, 0.1, 0.0),  # there may be more
        (True, 7, 0.01, 0.3),
        (True, 7, 0.15, 0.45),  # what comes meanwhile is one round
        (True, 7, 9.0, 0.5),
    ],
)
def test_a_sweep_rests_the_longer_the_longer_it_took(whole: bool, moved: int, took: float, rest: float) -> None:
    async def run() -> int:
        raise AssertionError

    assert rest_of(Sweep("silence", 0.3, run, whole=whole), moved, took) == pytest.approx(rest)
