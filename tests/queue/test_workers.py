"""Who may declare others dead, and how a worker goes when the database is away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

from mtad.base.db import Pool
from mtad.queue import store, workers
from mtad.queue.workers import BEAT, SILENT_FOR, Heart
from tests.clock import ManualClock
from tests.queue.world import World


class FrozenPool:
    """A database that can stand still, or be away."""

    def __init__(self) -> None:
        self.moves = asyncio.Event()
        self.moves.set()
        self.away = False

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        if self.away:
            raise ConnectionRefusedError("the database is away")
        await self.moves.wait()
        yield self

    async def fetchval(self, sql: str, worker: int) -> int:
        return worker


async def beating(clock: ManualClock, seconds: float) -> None:
    for _ in range(int(seconds / BEAT)):
        for _ in range(10):  # what was woken from outside of the clock
            await asyncio.sleep(0)
        await clock.advance(BEAT)


async def test_a_worker_that_stood_still_together_with_the_others_declares_none_of_them_dead() -> None:
    clock, pool = ManualClock(datetime(2026, 12, 1, tzinfo=UTC)), FrozenPool()
    heart = Heart(cast(Pool, pool), clock, 1)
    running = asyncio.create_task(heart.run())
    await beating(clock, 2 * SILENT_FOR)
    assert heart.steady

    pool.moves.clear()
    await beating(clock, SILENT_FOR)
    assert not heart.steady, "its own beat is late"
    pool.moves.set()
    await beating(clock, BEAT)
    assert not heart.steady, "others may not have beaten yet"

    await beating(clock, SILENT_FOR + 3 * BEAT)
    assert heart.steady
    running.cancel()


async def test_a_worker_leaves_with_the_database_away() -> None:
    pool = FrozenPool()
    pool.away = True

    await workers.leave(cast(Pool, pool), 1, [60] * 3)


async def test_what_a_worker_claims_before_it_hears_that_it_was_declared_dead_is_freed(world: World) -> None:
    worker = await world.worker()
    job = await world.job()
    await store.bury(world.rows.conn, [worker], [60] * 3)
    assert await world.claim(worker)

    freed = [await workers.free_the_dead(world.pool, [60] * 3) for _ in range(2)]

    assert freed == [1, 0]
    assert [facts.job_id for facts in await world.claim(await world.worker(slot=1))] == [job]
