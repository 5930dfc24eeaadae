"""The housekeeper: the one worker in the cluster that sweeps, elected by an advisory lock."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from prometheus_client import Counter, Histogram

from mtad.base.clock import Clock
from mtad.base.db import AWAY, Connection, Pool

log = logging.getLogger("mtad.housekeeper")

# Any number that nothing else in the database locks.
LOCK = 0x6D746B65

# How often a worker that is not the housekeeper tries to become it, and the
# housekeeper looks whether it still is.
PERIOD = 1.0

# A sweep that failed for another reason than an absent database is tried again after this.
FAILED = 5.0

# A sweep that moved nothing rests for no more than so many seconds because it took long.
LONGEST_REST = 5.0

# The same of a whole sweep that moved something: beside bulk it takes longer, and fewer rounds cost less.
WHOLE_REST, LONGEST_WHOLE_REST = 3, 0.5

SWEEP_SECONDS = Histogram("mtad_sweep_seconds", "Time of one run of a sweep", ["sweep"])
SWEPT = Counter("mtad_swept_total", "Rows that sweeps have moved", ["sweep"])


class Sweep(msgspec.Struct, frozen=True):
    """Something to do every `period` seconds; returns how many rows it moved.

    A sweep that moved something runs again at once, for there may be more; but one that is `whole`
    moves all there is in a run, and waits for `period` or longer (`rest_of`), so that the next moves many.
    One that moved nothing rests at least `least_rest` times as long as it ran, LONGEST_REST at most.
    """

    name: str
    period: float
    run: Callable[[], Awaitable[int]]
    end: Callable[[], object] = lambda: None  # this worker keeps house no longer
    whole: bool = False
    least_rest: int = 30


class Housekeeper:
    """Runs the sweeps while this worker holds the lock; waits for it while another does."""

    def __init__(self, pool: Pool, clock: Clock, sweeps: Sequence[Sweep]) -> None:
        self._pool = pool
        self._clock = clock
        self._sweeps = sweeps

    async def run(self) -> None:
        """Until cancelled. With the database away the lock is lost, and everything begins anew."""
        while True:
            try:
                async with self._pool.acquire() as conn:
                    if await conn.fetchval("select pg_try_advisory_lock($1)", LOCK):
                        await self._keep_house(conn)
            except* AWAY as gone:
                log.warning("housekeeping: the database is away", extra={"why": repr(gone.exceptions[0])})
            await self._clock.sleep(PERIOD)

    async def _keep_house(self, conn: Connection) -> None:
        log.info("this worker is the housekeeper")
        try:
            async with asyncio.TaskGroup() as group:
                for sweep in self._sweeps:
                    group.create_task(self._repeat(sweep), name=f"sweep {sweep.name}")
                while True:
                    await self._clock.sleep(PERIOD)
                    await conn.fetchval("select 1")
        finally:
            for sweep in self._sweeps:
                sweep.end()
            if not conn.is_closed():
                await conn.execute("select pg_advisory_unlock($1)", LOCK)

    async def _repeat(self, sweep: Sweep) -> None:
        while True:
            moved, began = 0, self._clock.monotonic()
            try:
                with SWEEP_SECONDS.labels(sweep=sweep.name).time():
                    moved = await sweep.run()
            except AWAY:
                raise
            except Exception:  # a defect here would end one worker after the other, and delivery with them
                log.exception("sweep failed", extra={"sweep": sweep.name})
                await self._clock.sleep(FAILED)
            SWEPT.labels(sweep=sweep.name).inc(moved)
            if rest := rest_of(sweep, moved, self._clock.monotonic() - began):
                await self._clock.sleep(rest)


def rest_of(sweep: Sweep, moved: int, took: float) -> float:
    """How many seconds a sweep rests after a run of so many seconds."""
    if not moved:
        # A sweep that grows with the installation never takes more than a share of the database.
        return max(sweep.period, min(sweep.least_rest * took, LONGEST_REST))
    return max(sweep.period, min(WHOLE_REST * took, LONGEST_WHOLE_REST)) if sweep.whole else 0.0
