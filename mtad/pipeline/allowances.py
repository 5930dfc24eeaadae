"""How many mails sources that are being warmed up may still send today, by provider, in this worker.

A worker takes a few from the day's row at a time and gives back what it has no use for,
so all workers together send exactly what the plan allows, and a mail costs no statement.
What a worker that dies had in hand is not sent that day.
"""

import asyncio
import logging
from datetime import date
from functools import partial

from mtad.base.clock import Clock
from mtad.base.db import AWAY, Pool
from mtad.base.source import Warmup
from mtad.queue import warmup as store
from mtad.source.warmup import next_step

log = logging.getLogger("mtad.warmup")

# Taken at once: a session's worth would lie idle in one worker at the end of a day.
BLOCK = 8

# What was not used for so long goes back, and how many were refused is written down.
PERIOD = 1.0

# Where nothing is left others may give some back: asked again after so many seconds. Nor
# does anybody send without an allowance because the database is away.
AGAIN = 10.0


class Allowance:
    """Of one source with one provider. Each mail takes one first."""

    def __init__(self, pool: Pool, clock: Clock, source: str, provider: str, plan: Warmup) -> None:
        self._pool = pool
        self._clock = clock
        self._source = source
        self._provider = provider
        self._plan = plan
        self._day = date.min
        self._left = 0
        self._free = False  # without a limit today
        self._used = False  # since the last look
        self._refused = 0
        self._none_until = 0.0  # monotonic
        self._lock = asyncio.Lock()

    @property
    def is_used_up(self) -> bool:
        """Whether there is nothing to be had now."""
        if self._today() < self._plan.start:
            return True
        self._turn_over()
        return not self._left and not self._free and self._clock.monotonic() < self._none_until

    async def ready(self) -> bool:
        """Whether a mail could be taken; before a server is dialled for it."""
        if self.is_used_up:
            return False
        self._used = True
        if not self._left and not self._free:
            async with self._lock:
                if not self._left and not self._free and not self.is_used_up:
                    await self._fill()
        return self._free or self._left > 0

    async def take(self) -> date | None:
        """One mail of this day; None when there is none left."""
        if not await self.ready():
            return None
        self._left -= not self._free
        return self._day

    def put_back(self, day: date) -> None:
        """It was not sent. What is left of another day than today is worth nothing."""
        if day == self._day and not self._free:
            self._left += 1

    def refused(self) -> None:
        """A mail was refused because of us."""
        self._refused += 1

    async def look(self, *, at_end: bool = False) -> None:
        """Give back what is not used; write down what was refused."""
        back = 0 if self._used and not at_end else self._left
        self._used = False
        if (back or self._refused) and self._day == self._today():
            refused, self._refused = self._refused, 0
            self._left -= back
            try:
                await self._grant(-back, refused)
            except AWAY:
                self._left += back
                self._refused += refused

    async def _fill(self) -> None:
        try:
            granted = await self._grant(BLOCK, 0)
        except AWAY as error:
            log.warning("no allowance", extra={"source": self._source, "why": repr(error)})
            self._none_until = self._clock.monotonic() + AGAIN
            return
        self._free = granted is None
        if granted:
            self._left += granted
        elif not self._free:
            self._none_until = self._clock.monotonic() + AGAIN

    async def _grant(self, wanted: int, refused: int) -> int | None:
        async with self._pool.acquire() as conn:
            return await store.grant(
                conn, self._source, self._provider, self._day, wanted, refused,
                partial(next_step, self._plan, self._provider),
            )  # fmt: skip

    def _today(self) -> date:
        return self._clock.now().date()

    def _turn_over(self) -> None:
        """At midnight all begins anew."""
        if self._day != (today := self._today()):
            self._day, self._left, self._free, self._none_until, self._refused = today, 0, False, 0.0, 0


class Allowances:
    """Those of a worker."""

    def __init__(self, pool: Pool, clock: Clock, plans: dict[str, Warmup]) -> None:
        """`plans`: by source."""
        self._pool = pool
        self._clock = clock
        self._plans = plans
        self._held: dict[tuple[str, str], Allowance] = {}

    def of(self, source: str, provider: str) -> Allowance | None:
        """None for a source that is established."""
        plan = self._plans.get(source)
        if plan is None:
            return None
        key = source, provider
        if key not in self._held:
            self._held[key] = Allowance(self._pool, self._clock, source, provider, plan)
        return self._held[key]

    async def run(self) -> None:
        """Give back what is not used, until cancelled."""
        while True:
            await self._clock.sleep(PERIOD)
            for allowance in list(self._held.values()):
                await allowance.look()

    async def end(self) -> None:
        """Give back everything."""
        for allowance in self._held.values():
            await allowance.look(at_end=True)
