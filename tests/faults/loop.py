"""An event loop whose time passes only when nothing else happens, so an hour of patience takes a millisecond.

Sockets are real. Before time jumps to the next timer the loop looks once more for a
moment, whether the kernel still carries something from one end to the other.
"""

import asyncio
import selectors
from datetime import UTC, datetime, timedelta

# Real seconds that loopback is given after something happened.
MOMENT = 0.002

START = datetime(2026, 1, 2, 12, tzinfo=UTC)


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self._quiet = False  # nothing has happened since we last gave it a moment

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and not self._quiet and timeout != 0:
            ready = super().select(MOMENT)
        if not ready and timeout is None:
            ready = super().select(None)
        self._quiet = not ready and timeout != 0
        if self._quiet and timeout is not None:
            self.passed += timeout
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """Timers fire in order, at once."""

    def __init__(self) -> None:
        self._fake = _Selector()
        super().__init__(self._fake)

    def time(self) -> float:
        return self._fake.passed


class LoopClock:
    """A Clock on the time of the running loop."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
