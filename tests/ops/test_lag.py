import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from mtad.ops.lag import LAG, LagMeter


class LateClock:
    """Wakes each sleeper so many seconds late; the last one never."""

    def __init__(self, late: Sequence[float]) -> None:
        self._late = list(late)
        self._elapsed = 0.0
        self.over = asyncio.Event()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if not self._late:
            self.over.set()
            await asyncio.Event().wait()
        self._elapsed += seconds + self._late.pop(0)


def observed() -> tuple[float, float]:
    """How often the lag was noted, and the sum."""
    samples = {sample.name: sample.value for metric in LAG.collect() for sample in metric.samples}
    return samples["mtad_loop_lag_seconds_count"], samples["mtad_loop_lag_seconds_sum"]


async def test_lag_is_what_a_sleeper_waited_beyond_what_it_asked_for() -> None:
    clock = LateClock([0.0, 0.25, 0.5])
    before = observed()

    running = asyncio.create_task(LagMeter(clock).run())
    await clock.over.wait()
    running.cancel()

    count, total = observed()
    assert count - before[0] == 3
    assert total - before[1] == pytest.approx(0.75)
