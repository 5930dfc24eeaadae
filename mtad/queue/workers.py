"""Workers as the database knows them: alive while they beat; what the dead held is freed."""

import logging
from collections.abc import Sequence

from prometheus_client import Counter

from mtad.base.clock import Clock
from mtad.base.db import AWAY, Connection, Pool, in_transaction
from mtad.base.errors import Problem
from mtad.queue import store

log = logging.getLogger("mtad.workers")

IN_DOUBT = Counter("mtad_in_doubt_total", "Mails that may have arrived: nobody heard the answer", ["cause"])

BEAT = 2.0
SILENT_FOR = 15.0

# A beat that comes so late says that the database, or we, stood still: so may have others.
LATE = SILENT_FOR / 2


class DeclaredDead(Problem):
    """This worker was silent for so long that others took over what it held; it may settle nothing."""


async def register(pool: Pool, *, host: str, slot: int, pid: int, hears: bool, in_doubt: Sequence[float]) -> int:
    """A new worker; whoever held its slot on this host before is dead, because the supervisor says so."""

    async def work(conn: Connection) -> int:
        worker = await store.register_worker(conn, host, slot, pid, hears=hears)
        await _bury(conn, await store.former_workers(conn, host, slot, worker), in_doubt)
        return worker

    return await in_transaction(pool, work)


async def leave(pool: Pool, worker: int, in_doubt: Sequence[float]) -> None:
    """A worker that goes in order: nothing of it is left, unless its time to drain ran out.

    With the database away it goes all the same, and is found silent later.
    """
    try:
        await in_transaction(pool, lambda conn: _bury(conn, [worker], in_doubt))
    except AWAY as error:
        log.warning("left without a word: the database is away", extra={"why": repr(error)})


async def free_the_dead(pool: Pool, in_doubt: Sequence[float]) -> int:
    """Free what silent and dead workers hold; how many workers that were."""

    async def work(conn: Connection) -> int:
        silent = await store.silent_workers(conn, SILENT_FOR)
        await _bury(conn, silent, in_doubt)
        return len(silent)

    return await in_transaction(pool, work)


async def _bury(conn: Connection, workers: list[int], in_doubt: Sequence[float]) -> None:
    if not workers:
        return
    freed, doubts = await store.bury(conn, workers, in_doubt)
    IN_DOUBT.labels(cause="worker_died").inc(doubts)
    if freed or doubts:
        log.warning("freed jobs of dead workers", extra={"workers": workers, "freed": freed, "in_doubt": doubts})


class Heart:
    """Beats for one worker. Ends with DeclaredDead when others have buried it."""

    def __init__(self, pool: Pool, clock: Clock, worker: int) -> None:
        self._pool = pool
        self._clock = clock
        self._worker = worker
        self._beaten = self._steady_since = clock.monotonic()

    async def run(self) -> None:
        while True:
            try:
                async with self._pool.acquire() as conn:
                    if not await store.beat(conn, self._worker):
                        raise DeclaredDead(f"worker {self._worker} was declared dead: it was silent for too long")
            except AWAY as error:
                log.warning("beat: the database is away", extra={"why": repr(error)})
                self._steady_since = self._clock.monotonic()
            else:
                if self._since(self._beaten) > LATE:
                    self._steady_since = self._clock.monotonic()
                self._beaten = self._clock.monotonic()
            await self._clock.sleep(BEAT)

    @property
    def steady(self) -> bool:
        """Whether we have beaten for as long as a silence lasts: only then is the silence of others theirs."""
        return self._since(self._steady_since) > SILENT_FOR + BEAT and self._since(self._beaten) <= LATE

    def _since(self, moment: float) -> float:
        return self._clock.monotonic() - moment
