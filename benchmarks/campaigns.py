"""One campaign after the other to the same people, each scheduled as an operator does it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from benchmarks.mailing import CAMPAIGN, STREAM
from benchmarks.place import Place
from mtad.base.db import Pool
from mtad.base.errors import Problem
from mtad.compose.apply import apply_program
from mtad.queue.enqueue import schedule

_ROUND_FILE = """
name = "{name}"
kind = "campaign"
stream = "{stream}"
[[step]]
message = "{message}"
"""
_IDLE = """
select not exists (select from job)
   and not exists (select from program where status = 'scheduled' or status = 'running' and enqueued is null)
"""

# For the mails of the last campaign.
_PATIENCE = 120.0


async def start_round(place: Place, pool: Pool, number: int) -> None:
    """Schedule one more campaign to everybody; the housekeeper enqueues it."""
    name = f"round-{number}"
    file = place.folder / "round.toml"
    file.write_text(_ROUND_FILE.format(name=name, stream=STREAM, message=CAMPAIGN), encoding="utf-8")
    await apply_program(pool, file, "benchmark")
    await schedule(pool, name)


@contextlib.asynccontextmanager
async def campaigns(place: Place, pool: Pool, period: float) -> AsyncIterator[None]:
    """A campaign every period inside the block."""

    async def run() -> None:
        began, number = time.monotonic(), 1
        while True:
            await start_round(place, pool, number)
            await asyncio.sleep(max(0.0, began + number * period - time.monotonic()))
            number += 1

    running = asyncio.create_task(run())
    try:
        yield
        if running.done():
            running.result()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until_idle(pool: Pool) -> None:
    """Return when every campaign is enqueued and nothing is queued; Problem when that takes too long."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if await pool.fetchval(_IDLE):
            return
        await asyncio.sleep(0.2)
    raise Problem(f"the queue is not empty after {_PATIENCE:g} s: more is asked for than this machine sends")
