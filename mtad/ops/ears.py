"""Says aloud, once an hour, what keeps us from hearing people; whoever looks sees it in check, top and audience."""

import logging

from prometheus_client import Gauge

from mtad.base.clock import Clock
from mtad.base.db import Pool
from mtad.ops.answers.unheard import unheard

log = logging.getLogger("mtad.ears")

UNHEARD = Gauge("mtad_unheard", "Tracking addresses out of reach, and hosts that died with hits unread", ["about"])

# Seconds.
AGAIN = 3600.0

ABOUT = ("tracker.url", "host")


class Ears:
    """Looks when it is told to."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._told: dict[str, float] = {}  # when, by the name of what is wrong

    async def run(self) -> int:
        """Tell of what is wrong, and of what is not any more; nothing is moved."""
        async with self._pool.acquire() as conn:
            found = await unheard(conn)
        for about in ABOUT:
            UNHEARD.labels(about=about).set(sum(one.about == about for one in found))
        now = self._clock.monotonic()
        for one in found:
            if now - self._told.get(one.name, -AGAIN) >= AGAIN:
                self._told[one.name] = now
                log.warning("people cannot be heard", extra={"why": one.why})
        for name in self._told.keys() - {one.name for one in found}:
            del self._told[name]
            log.info("people are heard again", extra={"by": name})
        return 0

    def end(self) -> None:
        """Another worker tells from now on."""
        self._told = {}
        for about in ABOUT:
            UNHEARD.labels(about=about).set(0)
