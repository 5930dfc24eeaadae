"""What a worker has done lately, for operators: counts by site, refusals that blame us, a line for each outcome.

It is told of what has been written down, so whatever it says stands in the ledger.
Bounded: by site as many as MOST_SITES, the last BLAMED refusals, the lags of ten seconds.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from prometheus_client import Counter as Metric

from mtad.base.clock import Clock
from mtad.ops.lag import LagMeter
from mtad.queue.settle import Ending
from mtad.queue.store import Ended, Released, Returned

MOST_SITES = 1000
BLAMED = 20

# Sites in one answer: those with the most to do.
LISTED = 50

# Scopes of a failure that are neither about the recipient nor about the other side.
OURS = frozenset(("message", "sender", "source", "protocol", "policy"))

BLAMING = Metric(
    "mtad_refusals_blaming_us_total", "Mails refused for good for our address, name or content", ["category"]
)


class Counts(msgspec.Struct):
    """How mails ended or went back, since the worker began; skipped ones are not counted."""

    delivered: int = 0
    deferred: int = 0  # went back after an attempt
    bounced: int = 0
    in_doubt: int = 0


class Blame(msgspec.Struct, frozen=True):
    """A mail that was refused for good, and not because of its recipient."""

    at: datetime
    site_id: int
    category: str
    scope: str
    reply: str


class LaneFigures(msgspec.Struct, frozen=True):
    """One lane of a worker now."""

    site_id: int
    site: str
    sessions: int
    waiting: int  # claimed, and waiting here for a session


class Figures(msgspec.Struct, frozen=True):
    """One worker now. `seconds` is how long it has counted, `lag` the worst of the last ten seconds."""

    slot: int
    worker: int | None
    pid: int
    seconds: float
    sessions: int
    waiting: int
    lag: float
    total: Counts
    sites: dict[int, Counts]
    lanes: list[LaneFigures]
    blamed: list[Blame]


class Watch:
    """Told by the settler, asked by the operator's line."""

    def __init__(self, clock: Clock, lag: LagMeter, log: Callable[[Sequence[Ending]], None] | None = None) -> None:
        """`log` writes down what was settled, where the configuration wants that."""
        self._clock = clock
        self._lag = lag
        self._log = log
        self._began = clock.monotonic()
        self._total = Counts()
        self._sites: dict[int, Counts] = {}
        self._blamed: deque[Blame] = deque(maxlen=BLAMED)
        self.lanes: Callable[[], Sequence[LaneFigures]] = list

    def settled(self, batch: Sequence[Ending]) -> None:
        """These have been written down."""
        for job in batch:
            if isinstance(job, Released):
                continue
            self._count(job)
            if isinstance(job, Ended) and job.outcome == "bounced" and job.scope in OURS:
                BLAMING.labels(category=job.reason).inc()
                blame = Blame(self._clock.now(), job.facts.site_id, job.reason, str(job.scope), job.reply or "")
                self._blamed.append(blame)
        if self._log is not None:
            self._log(batch)

    def figures(self, slot: int, worker: int | None, pid: int) -> Figures:
        """What there is to tell now."""
        lanes = sorted(self.lanes(), key=lambda lane: (lane.sessions, lane.waiting), reverse=True)
        most = Counter({site: counts.delivered + counts.deferred for site, counts in self._sites.items()})
        named = {lane.site_id for lane in lanes[:LISTED]} | {site for site, _ in most.most_common(LISTED)}
        return Figures(
            slot=slot,
            worker=worker,
            pid=pid,
            seconds=self._clock.monotonic() - self._began,
            sessions=sum(lane.sessions for lane in lanes),
            waiting=sum(lane.waiting for lane in lanes),
            lag=self._lag.worst,
            total=self._total,
            sites={site: self._sites[site] for site in named if site in self._sites},
            lanes=lanes[:LISTED],
            blamed=list(self._blamed),
        )

    def _count(self, job: Ended | Returned) -> None:
        if isinstance(job, Ended):
            name = job.outcome
        elif job.doubt:
            name = "in_doubt"
        elif job.attempts > job.facts.attempt:
            name = "deferred"
        else:
            return
        if name not in Counts.__struct_fields__:
            return
        site = self._sites.get(job.facts.site_id)
        if site is None:
            if len(self._sites) >= MOST_SITES:
                self._sites.clear()  # who compares two answers sees that it began anew
            site = self._sites[job.facts.site_id] = Counts()
        for counts in (self._total, site):
            setattr(counts, name, getattr(counts, name) + 1)
