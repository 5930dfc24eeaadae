"""A clock for tests that holds time still."""

import asyncio
from datetime import datetime, timedelta


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
