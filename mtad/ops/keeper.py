"""Starts the embedded Postgres again when it is gone."""

import asyncio
import logging

from mtad.base.clock import Clock
from mtad.base.errors import Unavailable
from mtad.ops.postgres import Postgres

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
                try:
                    if await asyncio.to_thread(self._postgres.start):
                        log.error("the embedded Postgres was gone and runs again")
                except Unavailable as error:
                    log.error("the embedded Postgres does not start", extra={"why": str(error)})  # noqa: TRY400
                    await self._clock.sleep(5.0)
            await self._clock.sleep(self._period)
