"""How late the event loop comes back to what is due: the wait that every session and every hit shares."""

from prometheus_client import Histogram

from mtad.base.clock import Clock

LAG = Histogram(
    "mtad_loop_lag_seconds", "How much later than it asked for a sleeper is woken",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)  # fmt: skip

# Twenty a second see a step of the loop that takes 50 ms, and cost nothing.
PERIOD = 0.05


class LagMeter:
    """Sleeps `period` seconds again and again until cancelled, and notes how much longer it was."""

    def __init__(self, clock: Clock, *, period: float = PERIOD) -> None:
        self._clock = clock
        self._period = period

    async def run(self) -> None:
        while True:
            asked = self._clock.monotonic()
            await self._clock.sleep(self._period)
            LAG.observe(max(0.0, self._clock.monotonic() - asked - self._period))
