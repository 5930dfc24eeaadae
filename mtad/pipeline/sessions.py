"""How many sessions this worker holds, agreed upon with the other workers.

The count of a lane stands in the database. It rises under the lane's lock; a lane that is left needs none, for
less than we hold is never too many. What the lanes of this worker want is written together, and so is what they
leave: small domains open and close one session for a few mails, and a transaction for each would cost more than
the mails.
"""

import logging
from collections.abc import Sequence

from prometheus_client import Gauge

from mtad.base.batcher import Batcher
from mtad.base.db import AWAY, Connection, Pool, run_again
from mtad.queue import store
from mtad.queue.store import Grant, Wish

log = logging.getLogger("mtad.sessions")

# Sessions of one worker, over all lanes. Above it nothing is claimed, and idle ones are closed.
MOST_SESSIONS = 500

# So long the lanes that are left are gathered: a send to many small domains leaves hundreds a second, and nobody
# waits for it but who ends.
LINGER = 0.02

_NONE = Grant(0, share=0, others_lack=False)

OPEN = Gauge("mtad_sessions", "Sessions that this worker holds, over all lanes")


class Sessions:
    """Asks for sessions and gives them back; `held` is how many the lanes of this worker have."""

    def __init__(self, pool: Pool, worker: int) -> None:
        self._pool = pool
        self._worker = worker
        self._asking: Batcher[Wish, Grant | None] = Batcher(self._ask, most=256)
        self._leaving: Batcher[int, bool] = Batcher(self._leave, most=256, linger=LINGER)
        self.held = 0
        OPEN.set_function(lambda: self.held)

    async def run_asking(self) -> None:
        """Until cancelled; what has begun is finished first."""
        await self._asking.run()

    async def run_leaving(self) -> None:
        """Until cancelled; what has begun is finished first."""
        await self._leaving.run()

    @property
    def full(self) -> bool:
        return self.held >= MOST_SESSIONS

    async def hold(self, wish: Wish, now: int) -> Grant:
        """Change what a lane holds, `now` so many; how many it may hold. One wish a lane at a time.

        With the database away no more are granted, and what was given back is written later.
        """
        granted: Grant | None
        if wish.wanted or wish.running:
            granted = await self._asking.put(wish)
        else:
            granted = _NONE if await self._leaving.put(wish.lane_id) else None
        if granted is None:
            granted = Grant(min(wish.wanted, now), share=wish.wanted, others_lack=False)
        self.held += granted.sessions - now
        return granted

    async def _ask(self, wishes: Sequence[Wish]) -> Sequence[Grant | None]:
        async def work(conn: Connection) -> dict[int, Grant]:
            return await store.hold_sessions(conn, self._worker, wishes)

        try:
            granted = await run_again(self._pool, work)
        except AWAY as error:
            log.warning("sessions not counted", extra={"why": repr(error)})
            return [None] * len(wishes)
        return [granted[wish.lane_id] for wish in wishes]

    async def _leave(self, lanes: Sequence[int]) -> Sequence[bool]:
        async def work(conn: Connection) -> None:
            await store.leave_lanes(conn, self._worker, lanes)

        try:
            await run_again(self._pool, work)
        except AWAY as error:
            log.warning("lanes not left", extra={"why": repr(error)})
            return [False] * len(lanes)
        return [True] * len(lanes)
