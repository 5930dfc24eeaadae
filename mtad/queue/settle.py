"""Settle: what became of jobs, written down in batches and never given up.

A session's last mail is settled before the begin of its next, so a 250 is in the ledger
before anything else happens on that session: after a crash no more copies can be in
doubt than sessions were open. While the database is away the batch is
tried again, as often as it takes; a batch that was committed without our hearing
of it finds nothing left to settle, so nothing is counted twice.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from engine.facts import Reason
from engine.service import GONE_FOR, Catalogue, Suppress, suppress
from mtad.base.batcher import Batcher
from mtad.base.clock import Clock
from mtad.base.config import Config
from mtad.base.db import AWAY, Connection, Pool, run_again
from mtad.queue import store
from mtad.queue.intake import redirect
from mtad.queue.store import Ended, Released, Returned

log = logging.getLogger("mtad.settle")

Ending = Ended | Returned | Released
Item = TypeVar("Item")

# How long a batch waits for further endings while the worker is busy: with many small domains few come in a begin's
# transaction. What lingers when a worker is killed is in doubt.
LINGER = 0.05

# Between two tries while the database is away.
AGAIN = 0.5


class _NotOursError(Exception):
    """Some of the jobs are another worker's by now, who settles them and has them taken over."""

    def __init__(self, settled: set[int]) -> None:
        self.settled = settled


def _all_of(jobs: Sequence[Ended], settled: set[int]) -> set[int]:
    if len(settled) < len(jobs):
        raise _NotOursError(settled)
    return settled


class Settler:
    """Collects endings, returns and releases, one transaction a batch of each."""

    def __init__(
        self, pool: Pool, clock: Clock, worker: int, slot: int, *, config: Config, more: Callable[[], bool],
        told: Callable[[Sequence[Ending]], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """`more`: whether the worker is busy, so that further endings will soon come; `told` hears what was settled."""
        self._told = told
        self._pool = pool
        self._clock = clock
        self._worker = worker
        self._slot = slot
        self._config = config
        self.batcher: Batcher[Ending, bool] = Batcher(self._write, most=256, linger=LINGER, more=more)
        self.unsettled: set[int] = set()  # jobs that this worker has claimed
        self.behind = False  # a batch waits for the database
        self._given_up = False

    async def run(self) -> None:
        await self.batcher.run()

    def give_up(self) -> None:
        """From here on a batch that the database does not take is dropped: its jobs are this worker's until it dies."""
        self._given_up = True

    async def _write(self, batch: Sequence[Ending]) -> Sequence[bool]:
        settled = await self.settle(batch)
        return [job.facts.job_id in settled for job in batch]

    async def settle(self, batch: Sequence[Ending]) -> set[int]:
        """Write a batch down, however long it takes; the jobs that were still this worker's to settle.

        Each kind is one statement and its own transaction: what suppresses locks gates,
        entries and jobs of whole contacts, and other endings lock engagement first.
        """
        ended = [job for job in batch if isinstance(job, Ended)]
        settled: set[int] = set()
        settled |= await self._until_done(self._hard, [job for job in ended if job.suppress])
        settled |= await self._until_done(self._redirected, [job for job in ended if job.redirect])
        settled |= await self._until_done(self._ended, [job for job in ended if not job.suppress and not job.redirect])
        settled |= await self._until_done(self._returned, [job for job in batch if isinstance(job, Returned)])
        settled |= await self._until_done(self._released, [job for job in batch if isinstance(job, Released)])
        self.forget(batch)
        return settled

    async def settle_before(self, conn: Connection, jobs: Sequence[Ended]) -> None:
        """Write endings that suppress nobody down, durable with the next commit on `conn`.

        Call `forget` when that has come, and `settle` when it has not.
        """
        await store.settle_ended(conn, self._worker, self._slot, jobs, flush=False)

    def forget(self, batch: Sequence[Ending]) -> None:
        """These are written down."""
        self._told(batch)
        self.unsettled.difference_update([job.facts.job_id for job in batch])

    async def _until_done(
        self, settle: Callable[[Connection, Sequence[Item]], Awaitable[set[int]]], jobs: Sequence[Item]
    ) -> set[int]:
        while jobs:
            try:
                settled = await run_again(self._pool, lambda conn: settle(conn, jobs))
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

    async def _hard(self, conn: Connection, jobs: Sequence[Ended]) -> set[int]:
        until = self._clock.now() + GONE_FOR
        async with conn.transaction():
            await suppress(
                conn,
                [
                    Suppress(job.facts.address_key, "all", "hard_bounce", f"job {job.facts.job_id}: {job.reply}", until)
                    for job in jobs
                ],
            )
            return await self._ended(conn, jobs)

    async def _redirected(self, conn: Connection, jobs: Sequence[Ended]) -> set[int]:
        """Whom their program refuses as Inactive: with the end of the mail the other program takes them, or not."""
        try:
            async with conn.transaction():
                return _all_of(jobs, await self._ended(conn, await self._taken_over(conn, jobs)))
        except _NotOursError as ours:
            return await self._redirected(conn, [job for job in jobs if job.facts.job_id in ours.settled])

    async def _taken_over(self, conn: Connection, jobs: Sequence[Ended]) -> list[Ended]:
        taken: set[tuple[str, int]] = set()
        for target in sorted({job.redirect for job in jobs}):
            contacts = [job.facts.contact_id for job in jobs if job.redirect == target]
            inside = await redirect(conn, Catalogue(self._pool), self._config, target, contacts)
            taken |= {(target, contact) for contact in inside}
        return [
            msgspec.structs.replace(job, reason=f"{Reason.REDIRECTED}:{job.redirect}")
            if (job.redirect, job.facts.contact_id) in taken
            else job
            for job in jobs
        ]

    async def _ended(self, conn: Connection, jobs: Sequence[Ended]) -> set[int]:
        return await store.settle_ended(conn, self._worker, self._slot, jobs)

    async def _returned(self, conn: Connection, jobs: Sequence[Returned]) -> set[int]:
        return await store.settle_returned(conn, self._worker, self._slot, jobs)

    async def _released(self, conn: Connection, jobs: Sequence[Released]) -> set[int]:
        return await store.release(conn, self._worker, jobs)
