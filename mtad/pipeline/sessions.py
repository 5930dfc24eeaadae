"""How many sessions this worker holds, agreed upon with the other workers.

The count of a lane stands in the database, under the lane's lock. What the lanes of
this worker want is written together: small domains open and close one session for a
few mails, and a transaction for each would cost more than the mails.
"""

import logging
from collections.abc import Callable, Sequence

from prometheus_client import Gauge

from mtad.base.batcher import Batcher
from mtad.base.db import AWAY, Connection, Pool, run_again
from mtad.queue import store
from mtad.queue.store import Grant, Wish

log = logging.getLogger("mtad.sessions")

# Sessions of one worker, over all lanes. Above it nothing is claimed, and idle ones are closed.
MOST_SESSIONS = 500

# How long a batch waits for further wishes while the worker is busy.
LINGER = 0.02

_NONE = Grant(0, share=0, others_lack=False)

OPEN = Gauge("mtad_sessions", "Sessions that this worker holds, over all lanes")


class Sessions:
    """Asks for sessions and gives them back; `held` is how many the lanes of this worker have."""

    def __init__(self, pool: Pool, worker: int, *, more: Callable[[], bool]) -> None:
        """`more`: whether mails wait to be signed, so that a further session has nothing to send yet."""
        self._pool = pool
        self._worker = worker
        self._batcher: Batcher[Wish, Grant | None] = Batcher(self._write, most=256, linger=LINGER, more=more)
        self.held = 0
        OPEN.set_function(lambda: self.held)

    async def run(self) -> None:
        await self._batcher.run()

    @property
    def full(self) -> bool:
        return self.held >= MOST_SESSIONS

    async def hold(self, wish: Wish, now: int) -> Grant:
        """Change what a lane holds, `now` so many; how many it may hold. One wish a lane at a time.

        With the database away no more are granted, and what was given back is written later.
        """
        granted = await self._batcher.put(wish)
        if granted is None:
            granted = Grant(min(wish.wanted, now), share=wish.wanted, others_lack=False)
        self.held += granted.sessions - now
        return granted

    async def _write(self, wishes: Sequence[Wish]) -> Sequence[Grant | None]:
        left = [wish.lane_id for wish in wishes if not wish.wanted]
        held = [wish for wish in wishes if wish.wanted]

        async def work(conn: Connection) -> dict[int, Grant]:
            if left:
                await store.leave_lanes(conn, self._worker, left)
            return await store.hold_sessions(conn, self._worker, held) if held else {}

        try:
            granted = await run_again(self._pool, work)
        except AWAY as error:
            log.warning("sessions not counted", extra={"why": repr(error)})
            return [None] * len(wishes)
        return [granted[wish.lane_id] if wish.wanted else _NONE for wish in wishes]
