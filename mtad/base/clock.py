"""The two clocks: wall time for what is written down, monotonic time for how long to wait.

Services get a Clock, so a test can hold time still. Pure code is told the time instead.
"""

import asyncio
import time
from datetime import UTC, datetime
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
