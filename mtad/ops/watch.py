"""What a worker has done lately, for operators: counts by lane, refusals that blame us, a line for each outcome.

It is told of what has been written down, so whatever it says stands in the ledger.
Bounded: by lane as many as MOST_LANES, the last BLAMED refusals, the lags of ten seconds.
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

MOST_LANES = 1000
BLAMED = 20

# Lanes in one answer: those with the most to do.
LISTED = 50

# Scopes of a failure that are neither about the recipient nor about the other side.
OURS = frozenset(("message", "sender", "source", "protocol", "policy"))

BLAMING = Metric("mtad_refusals_blaming_us_total", "5xx for our address, name, content or rate", ["category"])


class Counts(msgspec.Struct):
    """How mails ended or went back, since the worker began; skipped ones are not counted."""

    delivered: int = 0
    deferred: int = 0  # went back after an attempt
    bounced: int = 0
    in_doubt: int = 0


COUNTED = frozenset(Counts.__struct_fields__)


class Blame(msgspec.Struct, frozen=True):
    """A 5xx that was not about the recipient; the mail has bounced, or is tried once more."""

    at: datetime
    site_id: int
    category: str
    scope: str
    reply: str
    source: str  # what it left by; '': not known


class LaneFigures(msgspec.Struct, frozen=True):
    """One lane of a worker now."""

    site_id: int
    site: str
    source: str
    sessions: int
    waiting: int  # claimed, and waiting here for a session


class LaneCounts(msgspec.Struct, frozen=True):
    """What ended or went back by one lane."""

    site_id: int
    source: str
    counts: Counts


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
    counted: list[LaneCounts]
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
        self._by_lane: dict[tuple[int, str], Counts] = {}  # by site and source
        self._blamed: deque[Blame] = deque(maxlen=BLAMED)
        self.lanes: Callable[[], Sequence[LaneFigures]] = list

    def settled(self, batch: Sequence[Ending]) -> None:
        """These have been written down."""
        for (site, source, name), number in Counter(map(_counted, batch)).items():
            if name:
                self._count((site, source), name, number)
        for job in batch:
            if isinstance(job, Released) or job.scope not in OURS:
                continue
            match job:
                case Ended(outcome="bounced", reason=category, reply=reply):
                    self._blame(job, category, str(job.scope), reply or "")
                case Returned(category=category, reason=reply) if reply.startswith("5"):
                    self._blame(job, category, str(job.scope), reply)
        if self._log is not None:
            self._log(batch)

    def _blame(self, job: Ended | Returned, category: str, scope: str, reply: str) -> None:
        BLAMING.labels(category=category).inc()
        self._blamed.append(Blame(self._clock.now(), job.facts.site_id, category, scope, reply, _source(job)))

    def figures(self, slot: int, worker: int | None, pid: int) -> Figures:
        """What there is to tell now."""
        lanes = sorted(self.lanes(), key=lambda lane: (lane.sessions, lane.waiting), reverse=True)
        most = Counter({lane: counts.delivered + counts.deferred for lane, counts in self._by_lane.items()})
        named = {(lane.site_id, lane.source) for lane in lanes[:LISTED]} | {
            lane for lane, _ in most.most_common(LISTED)
        }
        return Figures(
            slot=slot,
            worker=worker,
            pid=pid,
            seconds=self._clock.monotonic() - self._began,
            sessions=sum(lane.sessions for lane in lanes),
            waiting=sum(lane.waiting for lane in lanes),
            lag=self._lag.worst,
            total=self._total,
            counted=[LaneCounts(*lane, self._by_lane[lane]) for lane in sorted(named & self._by_lane.keys())],
            lanes=lanes[:LISTED],
            blamed=list(self._blamed),
        )

    def _count(self, key: tuple[int, str], name: str, number: int) -> None:
        lane = self._by_lane.get(key)
        if lane is None:
            if len(self._by_lane) >= MOST_LANES:
                self._by_lane.clear()  # who compares two answers sees that it began anew
            lane = self._by_lane[key] = Counts()
        for counts in (self._total, lane):
            setattr(counts, name, getattr(counts, name) + number)


def _counted(job: Ending) -> tuple[int, str, str]:
    """Its site and source, and what of Counts it is; '' for nothing."""
    name = ""
    if isinstance(job, Ended):
        if job.outcome in COUNTED:
            name = job.outcome
    elif isinstance(job, Returned):
        if job.doubt:
            name = "in_doubt"
        elif job.attempts > job.facts.attempt:
            name = "deferred"
    return job.facts.site_id, _source(job), name


def _source(job: Ending) -> str:
    return job.trip.source if not isinstance(job, Released) and job.trip else ""
