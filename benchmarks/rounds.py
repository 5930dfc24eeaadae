"""Rounds of claim, begin and settle as the pipeline calls them, without SMTP, in a process of its own.

``python -m benchmarks.rounds`` reads a Task from stdin and writes Measured to stdout, both
JSON: a fresh process for each, so that its peak memory is its own. What is settled is
replaced by new arrivals, so the queue keeps its depth however many rounds there are.
"""

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec
import uvloop

from benchmarks import gauges
from benchmarks.backlog import Arrivals, Backlog
from benchmarks.housekeeping import timed_sweeps
from engine.facts import Facts
from mtad.base.db import Connection, Pool, in_transaction, open_pool
from mtad.base.errors import Problem
from mtad.queue import store
from mtad.queue.store import Ended, Offer

T = TypeVar("T")


class Task(msgspec.Struct, frozen=True):
    """What to do on which database."""

    url: str
    backlog: Backlog
    batch: int  # jobs of one begin, and of one settle
    rounds: int
    warm: int = 3  # rounds before those that count
    seconds: float = 60.0  # no round begins after that
    slot: int = 0
    sweeps: bool = False  # time the housekeeper's sweeps afterwards


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One claim, begin or settle; milliseconds. `client` and `postgres` are CPU time."""

    jobs: int
    ms: float
    client: float
    postgres: float


class Measured(msgspec.Struct, frozen=True):
    """Every call that counts, and what the process needed."""

    claims: list[Call]
    begins: list[Call]
    settles: list[Call]
    rss_mb: float  # peak of this process, before any sweep
    sweeps: dict[str, list[float]]  # milliseconds of each run


class Meter:
    """Times calls over a pool of one connection: wall clock, our CPU, and its backend's."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def call(self, work: Callable[[], Awaitable[T]], into: list[Call], jobs: Callable[[T], int]) -> T:
        """Run `work` and note what it took; `jobs` counts its result.

        After 50,000 queries the pool takes another connection: that call is not noted.
        """
        async with self._pool.acquire() as conn:
            backend = conn.get_server_pid()
        postgres, client, began = gauges.thread_cpu(backend), time.process_time(), time.perf_counter()
        result = await work()
        ms, client = (time.perf_counter() - began) * 1000, (time.process_time() - client) * 1000
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            into.append(Call(jobs(result), ms, client, (gauges.thread_cpu(backend) - postgres) * 1000))
        return result


class Rounds:
    """A worker that claims, begins and settles; one connection, so that it has one backend."""

    def __init__(self, task: Task, pool: Pool, worker: int, lanes: dict[int, int], meter: Meter) -> None:
        self._task = task
        self._pool = pool
        self._worker = worker
        self._lanes = lanes  # by site
        self._meter = meter
        self._draw = random.Random(worker)  # each run begins elsewhere
        self._arrivals = Arrivals(task.backlog, self._draw.randrange(task.backlog.contacts))
        self.claims: list[Call] = []
        self.begins: list[Call] = []
        self.settles: list[Call] = []

    async def some(self, number: int, seconds: float) -> None:
        """So many rounds; none begins after so many seconds."""
        end = time.monotonic() + seconds
        for _ in range(number):
            if time.monotonic() < end:
                await self._round()

    async def _round(self) -> None:
        """Claim once, begin and settle all of it in batches, and let as many arrive."""
        claimed = await self._meter.call(self._claim, self.claims, len)
        # Sessions of all lanes offer what they hold, so a batch is not of one lane.
        self._draw.shuffle(claimed)
        step = self._task.batch
        for batch in (claimed[start : start + step] for start in range(0, len(claimed), step)):
            await self._meter.call(partial(self._begin, batch), self.begins, len)
            await self._meter.call(partial(self._settle, batch), self.settles, len)
        if claimed:  # another worker may hold every site
            await in_transaction(
                self._pool, lambda conn: self._arrivals.bring(conn, [facts.site_id for facts in claimed])
            )

    def forget(self) -> None:
        """What was measured so far was the warming up."""
        self.claims, self.begins, self.settles = [], [], []

    async def _claim(self) -> list[Facts]:
        async with self._pool.acquire() as conn:
            return await store.claim(conn, self._worker, [], [])

    async def _begin(self, batch: Sequence[Facts]) -> dict[int, float | None]:
        offers = [Offer(facts, self._lanes[facts.site_id]) for facts in batch]
        answers = await in_transaction(self._pool, lambda conn: store.begin(conn, self._worker, offers))
        if held := [job for job in answers if answers[job] != 0.0]:
            raise Problem(f"begin held {len(held)} of {len(batch)} jobs back")
        return answers

    async def _settle(self, batch: Sequence[Facts]) -> set[int]:
        rows = [Ended(facts, "delivered", reply="250 2.0.0 ok", attempts=facts.attempt + 1) for facts in batch]

        async def work(conn: Connection) -> set[int]:
            return await store.settle_ended(conn, self._worker, self._task.slot, rows)

        settled = await in_transaction(self._pool, work)
        if len(settled) != len(batch):
            raise Problem(f"settle wrote {len(settled)} of {len(batch)} endings down")
        return settled


async def measure(task: Task) -> Measured:
    """Warm up, then measure; Problem when a round is not whole."""
    pool = await open_pool(task.url, most=1, name="benchmark")
    try:
        async with pool.acquire() as conn:
            worker = await store.register_worker(conn, "benchmark", task.slot, os.getpid(), hears=False)
            lanes = {row[0]: row[1] for row in await conn.fetch("select site_id, id from lane")}
        rounds = Rounds(task, pool, worker, lanes, Meter(pool))
        await rounds.some(task.warm, task.seconds)
        rounds.forget()
        await rounds.some(task.rounds, task.seconds)
        return Measured(
            claims=rounds.claims,
            begins=rounds.begins,
            settles=rounds.settles,
            rss_mb=gauges.peak_rss_mb(os.getpid()),
            sweeps=await timed_sweeps(pool) if task.sweeps else {},
        )
    finally:
        pool.terminate()


async def measured(task: Task) -> Measured:
    """Measure in a fresh process; Problem with its last line when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.rounds",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await process.communicate(msgspec.json.encode(task))
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise Problem(f"benchmarks.rounds: {(err.decode(errors='replace').splitlines() or ['no word'])[-1]}")
    return msgspec.json.decode(out, type=Measured)


def main() -> None:
    """Task in, Measured out."""
    found = uvloop.run(measure(msgspec.json.decode(sys.stdin.buffer.read(), type=Task)))
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(str(problem))
