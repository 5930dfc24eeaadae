"""The tracker as a whole, and the ripening of hits."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from aiohttp import web
from prometheus_client import Counter

from mtad.base.clock import Clock
from mtad.base.db import Connection, Pool, in_transaction
from tracker import store
from tracker.hits import Hit, judge
from tracker.ingest import Ingest, Unsubscribe
from tracker.links import Link, Links
from tracker.tokens import Keys
from tracker.web import make_app
from tracker.writer import Journal

JUDGED = Counter("mtad_tracker_judged_total", "Hits judged together with their mail", ["kind", "class"])

# Jobs judged in one transaction: the literal limit of the query ripe_jobs.
RIPE_BATCH = 200


class Tracker:
    """One worker's tracker: `app` answers, `run` does the rest until cancelled.

    `state` is the folder of this machine's state, `slot` this worker's place in it,
    `worker` its row in the database, None while it has none: nothing here waits for
    the database. Stop serving `app` before cancelling `run`, which returns when
    everything that was appended is durable.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        keys: Keys,
        state: Path,
        slot: int,
        worker: Callable[[], int | None],
        unsubscribe: Unsubscribe,
        trusted_proxies: Sequence[str],
        clock: Clock,
    ) -> None:
        async def source(after: int, missing: list[int], most: int) -> list[tuple[int, Link]]:
            return await store.links(pool, after, missing, most)

        self.journal = Journal(state / "journal", slot)
        self.links = Links(source, state / "links", str(slot), clock)
        self._ingest = Ingest(pool, self.journal, unsubscribe, worker, clock)
        self._app = make_app(
            keys=keys,
            links=self.links,
            record=self.journal.append,
            unsubscribe=unsubscribe,
            trusted_proxies=trusted_proxies,
            ready=lambda: self.links.loaded and self.journal.owned.is_set(),
            clock=clock,
        )

    def app(self) -> web.Application:
        """What answers recipients; tracker.web.make_runner puts it on sockets."""
        return self._app

    async def run(self) -> None:
        """Write the journal, ingest it and keep the links fresh until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.journal.run(), name="journal")
            tasks.create_task(self._ingest.run(), name="ingest")
            tasks.create_task(self.links.run(), name="links")


async def ripen(pool: Pool) -> int:
    """Judge the hits of every mail whose settle window is over; how many hits were judged.

    Per mail, all hits of all workers together. Events get class and reasons; in
    `pending` only what may earn points stays, with its class. A mail that is being
    sent waits. A person's hit on a job in doubt proves that it arrived: it stays in
    `pending` for whoever settles that job. Running it again, or twice at once,
    changes nothing.
    """
    judged = after = 0
    while True:
        jobs, count = await in_transaction(pool, partial(_ripen_batch, after=after))
        judged += count
        if len(jobs) < RIPE_BATCH:
            return judged
        after = jobs[-1].job_id


async def _ripen_batch(conn: Connection, *, after: int) -> tuple[list[store.RipeJob], int]:
    jobs = await store.ripe_jobs(conn, after)
    if not jobs:
        return jobs, 0
    pending = await store.lock_pending(conn, jobs)
    hits: defaultdict[int, dict[object, Hit]] = defaultdict(dict)
    for job_id, hit in await store.evidence(conn, jobs):
        hits[job_id][hit.event_id] = hit
    for hit in pending:
        hits[hit.job_id][hit.event_id] = hit
    waiting = {hit.event_id for hit in pending}
    verdicts = []
    for job in jobs:
        together = list(hits[job.job_id].values())
        for hit, judgement in zip(together, judge(together, job.mail), strict=True):
            if hit.event_id in waiting:
                verdicts.append((hit.event_id, judgement))
                JUDGED.labels(hit.kind, judgement.class_).inc()
    await store.write_verdicts(conn, verdicts)
    return jobs, len(verdicts)
