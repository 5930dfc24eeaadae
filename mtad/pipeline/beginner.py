"""Begin: the commit after which an attempt may touch the network; good for two seconds.

What became of the sessions' last mails is settled right before, in a transaction of its
own: it needs no lane, and every worker waits for the lanes that a begin holds. Both are
on one connection, and the begin's commit flushes the log for both. So at most one mail
a session is ever between begin and the ledger.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from prometheus_client import Histogram

from engine.service import Catalogue
from mtad.base.batcher import Batcher
from mtad.base.clock import Clock
from mtad.base.db import AWAY, Connection, Pool, run_again
from mtad.pipeline.backlog import TRANSACTIONAL
from mtad.queue import store
from mtad.queue.settle import Settler
from mtad.queue.store import Ended, Offer, Returned

log = logging.getLogger("mtad.begin")

# DATA not written so many seconds after the begin: begin again.
VALID = 2.0

# Offers of one statement, and how long it waits for them while mails are being signed: 64 at once
# cost Postgres a third of 8 times 8, and hold the lanes less often. Transactional mail waits for none,
# in batches of its own: those of bulk may wait for whoever holds the rows of their last mails. Its own
# may, too, behind the last mails of the few sessions that take it.
MOST = 64
LINGER = 0.05

BEGIN_SECONDS = Histogram("mtad_begin_seconds", "Time of one begin, all offers of a batch together")


class Turn(msgspec.Struct, frozen=True, gc=False):
    """A session's next mail, and what became of its last."""

    offer: Offer
    last: Ended | Returned | None


class Begun(msgspec.Struct, frozen=True, gc=False):
    """The answer to one offer. `wait` as in the query: 0 go, above 0 seconds, None stale."""

    wait: float | None
    data_by: float  # monotonic


STALE = Begun(None, 0.0)


class Beginner:
    """Collects what the sessions of all lanes offer; one transaction for all of it."""

    def __init__(
        self, pool: Pool, clock: Clock, worker: int, settler: Settler, catalogue: Catalogue,
        *, more: Callable[[], bool],
    ) -> None:  # fmt: skip
        """`more`: whether further offers are about to come."""
        self._catalogue = catalogue
        self._pool = pool
        self._clock = clock
        self._worker = worker
        self._settler = settler
        self._transactional: Batcher[Turn, Begun] = Batcher(self._write, most=MOST)
        self._others: Batcher[Turn, Begun] = Batcher(self._write, most=MOST, linger=LINGER, more=more)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._transactional.run())
            group.create_task(self._others.run())

    def begin(self, turn: Turn) -> Awaitable[Begun]:
        """Settle the session's last mail, for certain, and ask to send its next now."""
        urgent = turn.offer.facts.class_ == TRANSACTIONAL
        return (self._transactional if urgent else self._others).put(turn)

    async def _write(self, turns: Sequence[Turn]) -> Sequence[Begun]:
        offers = [self._counted(turn.offer) for turn in turns]
        last = [turn.last for turn in turns if turn.last is not None]
        ended = [row for row in last if isinstance(row, Ended) and not row.suppress]
        await self._settler.settle([row for row in last if not isinstance(row, Ended) or row.suppress])
        asked = 0.0

        async def work(conn: Connection) -> dict[int, float | None]:
            nonlocal asked
            if ended:
                await self._settler.settle_before(conn, ended)
            # From before the statement, so that the deadline errs on the early side.
            asked = self._clock.monotonic()
            return await store.begin(conn, self._worker, offers)

        try:
            with BEGIN_SECONDS.time():
                answers = await run_again(self._pool, work)
        except AWAY as error:
            # Whether it was committed is not known, but nothing was sent.
            log.warning("the database is away", extra={"why": repr(error)})
            await self._settler.settle(ended)
            return [STALE] * len(turns)
        self._settler.forget(ended)
        return [Begun(answers[offer.facts.job_id], asked + VALID) for offer in offers]

    def _counted(self, offer: Offer) -> Offer:
        """With whether it takes a slot of caps. If that changed since, so did the epoch, and the offer is stale."""
        return msgspec.structs.replace(offer, counts=True) if self._catalogue.counts(offer.facts) else offer
