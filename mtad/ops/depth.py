"""The depth of the queue by provider, for Prometheus: what `mtad queue` shows, as metrics of whoever keeps house."""

from collections import defaultdict

from prometheus_client import Gauge

from mtad.base.db import Connection, Pool
from mtad.base.source import OTHER
from mtad.ops.answers.queue import queue_sample
from mtad.queue import store
from mtad.shape.layers import Shaper

# The provider of mail whose domain is not resolved yet.
UNRESOLVED = "unresolved"

WAITING = Gauge("mtad_queue_waiting", "Mails that wait in the queue", ["provider"])
DUE = Gauge("mtad_queue_due", "Of these, those that are due", ["provider"])
DEFERRED = Gauge("mtad_queue_deferred", "Of these, those that were tried before", ["provider"])
LATE = Gauge("mtad_queue_late_seconds", "How long the first due mail has waited", ["provider"])
GAUGES = WAITING, DUE, DEFERRED, LATE


class Depth:
    """Measures; a queue too deep to be counted by a sample of its pages."""

    def __init__(self, pool: Pool, shaper: Shaper) -> None:
        self._pool = pool
        self._shaper = shaper
        self._providers: dict[int, str] = {}  # by site
        self._seen: set[str] = set()

    async def measure(self) -> int:
        """Set the gauges; moves no rows. A sweep."""
        async with self._pool.acquire() as conn:
            at, sample = await queue_sample(conn)
            await self._know(conn, [site for site in sample.counts if site is not None])
        found: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0])
        for site, (waiting, due, deferred, _) in sample.counts.items():
            row = found[UNRESOLVED if site is None else self._providers[site]]
            head = sample.heads[site]
            late = max(0.0, (at - head).total_seconds()) if head else 0.0
            row[:] = row[0] + waiting, row[1] + due, row[2] + deferred, max(row[3], late)
        self._seen |= found.keys()
        for provider in self._seen:
            for gauge, value in zip(GAUGES, found[provider], strict=True):
                gauge.labels(provider=provider).set(value)
        return 0

    def end(self) -> None:
        """Another worker keeps house: what this one knew is not to be added to what that one says."""
        self._seen.clear()
        for gauge in GAUGES:
            gauge.clear()

    async def _know(self, conn: Connection, sites: list[int]) -> None:
        if new := [site for site in sites if site not in self._providers]:
            for site, (_, hosts) in (await store.site_hosts(conn, new)).items():
                self._providers[site] = self._shaper.provider(hosts) or OTHER
