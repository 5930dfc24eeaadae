"""How late the event loop comes back to what is due: the wait that every session and every hit shares."""

from collections import deque

from prometheus_client import Histogram

from mtad.base.clock import Clock

LAG = Histogram(
    "mtad_loop_lag_seconds", "How much later than it asked for a sleeper is woken",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)  # fmt: skip

# Twenty a second see a step of the loop that takes 50 ms, and cost nothing.
PERIOD = 0.05
REMEMBERED = 10.0


class LagMeter:
    """Sleeps `period` seconds again and again until cancelled, and notes how much longer it was."""

    def __init__(self, clock: Clock, *, period: float = PERIOD) -> None:
        self._clock = clock
        self._period = period
        self._lately: deque[float] = deque([0.0], maxlen=round(REMEMBERED / period))

    @property
    def worst(self) -> float:
        """The longest of the last ten seconds."""
        return max(self._lately)

    async def run(self) -> None:
        while True:
            asked = self._clock.monotonic()
            await self._clock.sleep(self._period)
            lag = max(0.0, self._clock.monotonic() - asked - self._period)
            LAG.observe(lag)
            self._lately.append(lag)
