"""When this worker may open another connection, where a lane has a limit for that (max_connection_rate)."""

import logging
from collections.abc import Sequence

from mtad.base.batcher import Batcher
from mtad.base.db import AWAY, Connection, Pool, in_transaction
from mtad.queue.dials import Dial, take_dials

log = logging.getLogger("mtad.dials")

# Seconds after which is asked again when the database is away.
AGAIN = 1.0


class Dials:
    """Asks for all lanes of the worker together; a lane without a limit asks nobody."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._batcher: Batcher[Dial, float] = Batcher(self._take, most=256)

    async def run(self) -> None:
        await self._batcher.run()

    async def take(self, dial: Dial) -> float:
        """0.0: open a connection now; else the seconds after which to ask again."""
        return await self._batcher.put(dial)

    async def _take(self, dials: Sequence[Dial]) -> Sequence[float]:
        async def work(conn: Connection) -> list[float]:
            return await take_dials(conn, dials)

        try:
            return await in_transaction(self._pool, work)
        except AWAY as error:
            log.warning("connections not counted", extra={"why": repr(error)})
            return [AGAIN] * len(dials)
