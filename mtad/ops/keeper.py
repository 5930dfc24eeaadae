"""Starts the embedded Postgres again when it is gone."""

import asyncio
import logging
from functools import partial

from mtad.base.again import until_it_works
from mtad.base.clock import Clock
from mtad.ops.postgres import PATIENCE, Postgres

log = logging.getLogger("mtad.postgres")


class Keeper:
    """Looks every `period` seconds until cancelled; workers wait for the database meanwhile."""

    def __init__(self, postgres: Postgres, clock: Clock, *, period: float = 0.5) -> None:
        self._postgres = postgres
        self._clock = clock
        self._period = period

    async def run(self) -> None:
        """Never gives up: a full disk may be mended while we try."""
        while True:
            if not self._postgres.running():
                # With little patience: a thread that waits would hold up the end of the supervisor.
                start = partial(asyncio.to_thread, self._postgres.start, PATIENCE)
                if await until_it_works(start, self._clock, log, "the embedded Postgres does not start"):
                    log.error("the embedded Postgres was gone and runs again")
            await self._clock.sleep(self._period)
