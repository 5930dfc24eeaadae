"""A lane's rate and sessions over two workers, one of them stopped for a while and then killed."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.place import Place, running_place

pytestmark = pytest.mark.timeout(120)

RATE, BURST, SESSIONS = 50, 5, 8
PEOPLE = 600
SHAPE = f"""
[shape.domain."reader.test"]
max_message_rate = "{RATE}/s,max_burst={BURST}"
connection_limit = {SESSIONS}
"""


class Counted(set[Any]):
    """The sink's open connections, and the most there ever were."""

    most = 0

    def add(self, connection: object) -> None:
        super().add(connection)
        self.most = max(self.most, len(self))


@contextlib.asynccontextmanager
async def measured_lag() -> AsyncIterator[list[float]]:
    """By how much each sleep of 10 ms was too long.

    By so much the sink may crowd what came in time; and where other programs leave no time
    to us, they leave none to the workers.
    """
    lags: list[float] = []

    async def measure() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            lags.append(time.monotonic() - before - 0.01)

    task = asyncio.create_task(measure())
    try:
        yield lags
    finally:
        task.cancel()


async def test_rate_and_sessions_hold_over_workers_that_stop_and_die_and_are_used(prepared: Path) -> None:
    async with running_place(prepared, rate=1000, shape=SHAPE) as place, measured_lag() as lags:
        connections = place.sink._open = Counted()
        await queue_with_refusals(place)
        workers = await place.workers()
        await place.mtad("resume", "source", "default")

        await place.sink.wait_for(20)
        os.kill(workers[0], signal.SIGSTOP)
        await asyncio.sleep(2.0)  # the promise is about a worker that stands still for so long
        os.kill(workers[0], signal.SIGCONT)
        await place.sink.wait_for(140)
        await place.kill(workers[0])
        await place.until_over("news")
        refused = await place.pool.fetchval("select count(*) from ledger where outcome = 'skipped'")
        begun = await place.pool.fetch("select begun from ledger where begun is not null order by begun")

    arrived = sorted(copy.at.timestamp() for copy in place.sink.messages)
    assert refused == 0.3 * PEOPLE
    assert most_within(1.0, [row[0].timestamp() for row in begun]) <= RATE + BURST
    assert most_within(1.0, arrived) <= RATE + BURST + RATE * max(lags)
    assert 2 <= connections.most <= SESSIONS
    # To where the queue ends for the worker that lives, while the other one's claim is not free yet.
    used = arrived[:300]
    starved = sum(lag for lag in lags if lag > 0.005) / (sum(lags) + 0.01 * len(lags))
    assert len(used) / (used[-1] - used[0]) >= 0.95 * RATE * (1 - starved), f"starved for {starved:.0%} of the time"


async def queue_with_refusals(place: Place) -> None:
    """A campaign that waits in the queue; three in ten have been suppressed since, which the gate finds out."""
    people = [f"p{n}@reader.test" for n in range(PEOPLE)]
    await place.import_people(people)
    await place.apply_campaign("news")
    await place.mtad("suspend", "source", "default")
    await place.mtad("program", "start", "news")
    refused = place.write("refused.txt", "\n".join(people[n] for n in range(PEOPLE) if n % 10 < 3))
    await place.mtad("suppress", "import", refused)


def most_within(seconds: float, times: list[float]) -> int:
    """The most of these, in order, in any span of so many seconds."""
    first = most = 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
