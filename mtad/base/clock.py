"""The two clocks: wall time for what is written down, monotonic time for how long to wait.

Services get a Clock, so a test can hold time still. Pure code is told the time instead.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """What every service asks for the time. Wall time is aware and in UTC."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clocks."""

    # Asked a dozen times for each mail, so there is no function of ours around them.
    now = staticmethod(partial(datetime.now, UTC))
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that moves only when told: `await clock.advance(3.0)` wakes the sleepers in order."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed + seconds, waker))
        await waker

    async def advance(self, seconds: float) -> None:
        """Move time on; everyone whose time has come runs before this returns to the caller."""
        end = self._elapsed + seconds
        while due := sorted((s for s in self._sleepers if s[0] <= end), key=lambda s: s[0])[:1]:
            self._sleepers.remove(due[0])
            self._now += timedelta(seconds=due[0][0] - self._elapsed)
            self._elapsed = due[0][0]
            if not due[0][1].done():
                due[0][1].set_result(None)
            for _ in range(10):
                await asyncio.sleep(0)
        self._now += timedelta(seconds=end - self._elapsed)
        self._elapsed = end
