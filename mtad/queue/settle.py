"""Settle: what became of jobs, written down in batches and never given up.

A session waits for its batch before it begins its next mail, so a 250 is in the
ledger before anything else happens on that session: after a crash no more copies
can be in doubt than sessions were open. While the database is away the batch is
tried again, as often as it takes; a batch that was committed without our hearing
of it finds nothing left to settle, so nothing is counted twice.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from engine.service import Suppress, suppress
from mtad.base.batcher import Batcher
from mtad.base.clock import Clock
from mtad.base.db import AWAY, Connection, Pool, in_transaction
from mtad.queue import store
from mtad.queue.store import Ended, Released, Returned

log = logging.getLogger("mtad.settle")

Item = TypeVar("Item")

# How long an address that bounced for good is left alone: some are set up again.
GONE_FOR = timedelta(days=180)

# Between two tries while the database is away.
AGAIN = 0.5


class Settler:
    """Collects endings, returns and releases, one transaction a batch."""

    def __init__(self, pool: Pool, clock: Clock, worker: int, slot: int) -> None:
        self._pool = pool
        self._clock = clock
        self._worker = worker
        self._slot = slot
        self.batcher: Batcher[Ended | Returned | Released, bool] = Batcher(self._write, most=256)
        self.unsettled: set[int] = set()  # jobs that this worker has claimed
        self.behind = False  # a batch waits for the database
        self._given_up = False

    async def run(self) -> None:
        await self.batcher.run()

    def give_up(self) -> None:
        """From here on a batch that the database does not take is dropped: its jobs are this worker's until it dies."""
        self._given_up = True

    async def _write(self, batch: Sequence[Ended | Returned | Released]) -> Sequence[bool]:
        """By item: whether the job was still this worker's to settle."""
        # Suppressing locks gates, entries and jobs of whole contacts. In one
        # transaction with other endings, which lock engagement first, two settlers
        # could wait for each other.
        hard = [job for job in batch if isinstance(job, Ended) and job.suppress]
        rest = [job for job in batch if not (isinstance(job, Ended) and job.suppress)]
        settled = await self._until_done(self._settle_hard, hard) | await self._until_done(self._settle, rest)
        self.unsettled.difference_update(job.facts.job_id for job in batch)
        return [job.facts.job_id in settled for job in batch]

    async def _until_done(
        self, settle: Callable[[Connection, Sequence[Item]], Awaitable[set[int]]], jobs: Sequence[Item]
    ) -> set[int]:
        while jobs:
            try:
                settled = await in_transaction(self._pool, lambda conn: settle(conn, jobs))
            except AWAY as error:
                log.warning("settle waits for the database", extra={"why": repr(error), "jobs": len(jobs)})
                self.behind = True
                if self._given_up:
                    break
                await self._clock.sleep(AGAIN)
            else:
                self.behind = False
                return settled
        return set()

    async def _settle_hard(self, conn: Connection, jobs: Sequence[Ended]) -> set[int]:
        until = self._clock.now() + GONE_FOR
        await suppress(
            conn,
            [
                Suppress(job.facts.address_key, "all", "hard_bounce", f"job {job.facts.job_id}: {job.reply}", until)
                for job in jobs
            ],
        )
        return await store.settle_ended(conn, self._worker, self._slot, jobs)

    async def _settle(self, conn: Connection, jobs: Sequence[Ended | Returned | Released]) -> set[int]:
        ended = [job for job in jobs if isinstance(job, Ended)]
        returned = [job for job in jobs if isinstance(job, Returned)]
        released = [job for job in jobs if isinstance(job, Released)]
        settled: set[int] = set()
        if ended:
            settled |= await store.settle_ended(conn, self._worker, self._slot, ended)
        if returned:
            settled |= await store.settle_returned(conn, self._worker, self._slot, returned)
        if released:
            settled |= await store.release(conn, self._worker, released)
        return settled
