"""One campaign from a full queue to its last settled row, with workers of its own, whatever arrives beside it."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import aiohttp
import msgspec

from benchmarks import gauges
from benchmarks.budget import Accounts, Budget, between
from benchmarks.place import Place
from benchmarks.run import say
from mtad.base.db import Pool
from mtad.base.errors import Problem

Beside = Callable[[aiohttp.ClientSession], AbstractAsyncContextManager[None]]
"""What else arrives, from the entry to the exit of the block."""

# Between two looks at /metrics, which cost workers and us some milliseconds each; seconds.
_SELDOM, _OFTEN = 2.0, 0.25

_STATE = """
select status::text, why, exists (select from job where program_id = p.id) as queued from program p where name = $1
"""
_SENT = """
select count(*) filter (where outcome = 'delivered') as delivered, coalesce(sum(doubts), 0)::bigint as doubts,
       min(begun) as first, max(ended) as last
  from ledger where program_id = (select id from program where name = $1)
"""


class Sent(msgspec.Struct, frozen=True):
    """What the ledger says of one program; the times are null of one that has not begun."""

    delivered: int
    doubts: int
    first: datetime | None
    last: datetime | None

    @property
    def rate(self) -> float:
        """A second, from the first begin to the last end."""
        if self.first is None or self.last is None:
            return 0.0
        return self.delivered / ((self.last - self.first) / timedelta(seconds=1))


class Phase(msgspec.Struct, frozen=True):
    """A campaign that was sent, and what that took."""

    sent: Sent
    budget: Budget  # from the workers' start to the last settled row

    def cpu_us(self) -> dict[str, float]:
        """By who used it, a mail of the campaign, with all that arrived beside it."""
        return {who: round(used / self.sent.delivered * 1e6, 1) for who, used in self.budget.cpu.items()}


async def sent(pool: Pool, name: str) -> Sent:
    """What the ledger says now."""
    row = await pool.fetchrow(_SENT, name)
    assert row is not None
    return Sent(*row.values())


async def send_through(
    place: Place, pool: Pool, accounts: Accounts, name: str, contacts: int, beside: Beside | None = None
) -> Phase:
    """Start a campaign, then the workers; return when they have sent it, and have stopped."""
    await place.installation.command("program", "start", name)
    place.installation.log_path.write_bytes(b"")  # the workers before are not those that are waited for
    await place.start()
    workers = await _workers(place)
    before = await accounts.look(workers)
    say(f"sending {name}, workers {' '.join(map(str, workers))}")
    async with aiohttp.ClientSession() as http, beside(http) if beside else contextlib.nullcontext():
        await _until_sent(place, pool, http, name, contacts)
        after = await accounts.look(workers)
    await place.stop()
    return Phase(await sent(pool, name), between(before, after))


async def _workers(place: Place) -> list[int]:
    """The pids of all workers, as soon as the last of them has begun."""
    while True:
        if len(workers := place.started()) >= place.workers:
            return workers
        await asyncio.sleep(0.01)


async def _until_sent(place: Place, pool: Pool, http: aiohttp.ClientSession, name: str, contacts: int) -> None:
    """Return when nothing of the campaign is queued; Problem when it has paused itself or a worker died.

    The database is not asked before the workers' counters say that it may be so, or stand still.
    """
    before, began = 0.0, time.monotonic()
    while True:
        if len(place.started()) > place.workers:
            raise Problem(f"a worker died: see {place.installation.log_path}")
        attempts = 0.0
        with contextlib.suppress(aiohttp.ClientConnectionError):
            attempts = gauges.total(await place.metrics(http), "mtad_attempts_total")
        state = await pool.fetchrow(_STATE, name) if attempts >= contacts or attempts == before else None
        before = attempts
        if state is not None and state["status"] == "paused":
            raise Problem(f"{name} has paused itself: {state['why']}")
        if state is not None and not state["queued"]:
            return
        rate = attempts / (time.monotonic() - began)
        left = (contacts - attempts) / rate if rate else 0.0
        await asyncio.sleep(min(max(left / 2, _OFTEN), _SELDOM))
