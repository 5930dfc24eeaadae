"""What is tried again, by a clock that stands still."""

import logging
from datetime import UTC, datetime

import pytest

from mtad.base.again import until_it_works
from mtad.base.errors import DatabaseAway
from tests.clock import ManualClock


class Impatient(ManualClock):
    """Whoever sleeps is woken at once, so much later."""

    def __init__(self) -> None:
        super().__init__(datetime(2026, 11, 23, tzinfo=UTC))
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.advance(seconds)


async def test_each_new_reason_is_said_once_and_then_every_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Impatient()
    fails: list[Exception] = [*[DatabaseAway("away")] * 16, *[KeyError("a defect")] * 2]

    async def work() -> int:
        if len(clock.slept) < len(fails):
            raise fails[len(clock.slept)]
        return 42

    assert await until_it_works(work, clock, logging.getLogger("mtad"), "waiting") == 42

    assert clock.slept == [0.5, 1.0, 2.0, 4.0] + [5.0] * 14
    said = [(record.levelname, record.__dict__["why"]) for record in caplog.records]
    assert said == [("WARNING", "away"), ("WARNING", "away"), ("ERROR", "KeyError('a defect')")]
