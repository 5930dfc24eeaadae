"""Begin: the commit after which an attempt may touch the network; good for two seconds."""

from collections.abc import Sequence

import msgspec
from prometheus_client import Histogram

from mtad.base.batcher import Batcher
from mtad.base.clock import Clock
from mtad.base.db import Connection, Pool, in_transaction
from mtad.queue import store
from mtad.queue.store import Offer

# DATA not written so many seconds after the begin: begin again.
VALID = 2.0

BEGIN_SECONDS = Histogram("mtad_begin_seconds", "Time of one begin, all offers of a batch together")


class Begun(msgspec.Struct, frozen=True):
    """The answer to one offer. `wait` as in the query: 0 go, above 0 seconds, None stale."""

    wait: float | None
    data_by: float  # monotonic


STALE = Begun(None, 0.0)


class Beginner:
    """Collects what the sessions of all lanes offer; one statement for all of it."""

    def __init__(self, pool: Pool, clock: Clock, worker: int) -> None:
        self._pool = pool
        self._clock = clock
        self._worker = worker
        self._batcher: Batcher[Offer, Begun] = Batcher(self._write, most=64)

    async def run(self) -> None:
        await self._batcher.run()

    async def begin(self, offer: Offer) -> Begun:
        """Ask to send now. Raises when the database is away; then nothing may be sent."""
        return await self._batcher.put(offer)

    async def _write(self, offers: Sequence[Offer]) -> Sequence[Begun]:
        # From before the statement, so that the deadline errs on the early side.
        asked = self._clock.monotonic()

        async def work(conn: Connection) -> dict[int, float | None]:
            return await store.begin(conn, self._worker, offers)

        with BEGIN_SECONDS.time():
            answers = await in_transaction(self._pool, work)
        return [Begun(answers[offer.facts.job_id], asked + VALID) for offer in offers]
