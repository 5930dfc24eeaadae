"""Hits on their way to disk: counted, journalled, and never waited for too long."""

import asyncio
import logging
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from ipaddress import ip_network

import msgspec
from prometheus_client import Counter

from mtad.base.clock import Clock
from mtad.base.ids import uuid7
from tracker.hits import HYGIENE, Hit, Kind, Method, Reader
from tracker.origin import Origins

log = logging.getLogger("mtad.tracker")

HITS = Counter("mtad_tracker_hits_total", "Hits with a valid token", ["kind", "method"])
DROPPED = Counter("mtad_tracker_dropped_total", "Hits that were answered but could not be journalled", ["kind"])

# By kind and method: looking a child up by its labels costs five times what counting does.
_COUNTED = {(kind, method): HITS.labels(kind, method) for kind in Kind for method in Method}

# How long a person waits for our disk.
JOURNAL_PATIENCE = 2.0

# Random bytes, for the ids of a hundred hits.
STORED = 1000


# Called once, with why hits are not durable, or None.
Told = Callable[[Exception | None], None]

# Has hits recorded that were taken together, alone or with others that come soon, and tells when they are durable.
# OSError when they cannot be.
Record = Callable[[Sequence[Hit], Told, bool], None]


class Moment(msgspec.Struct, frozen=True, gc=False):
    """When requests are taken: one for all that are taken together."""

    at: datetime
    unix_ms: int


class _Recording(msgspec.Struct, gc=False):
    """Hits on their way to disk."""

    hits: Sequence[Hit]
    then: Callable[[bool], None] | None  # None: it was called
    until: float  # when they are given up on, by the loop's clock


class Noting:
    """Makes hits of requests and has them recorded."""

    def __init__(self, record: Record, *, trusted_proxies: Sequence[str], clock: Clock) -> None:
        self._record = record
        self._origins = Origins([ip_network(network) for network in trusted_proxies])
        self._clock = clock
        self._entropy = _entropy()
        self._refused = False  # whether the journal refused the last hits
        # When each gives up, in order, and one timer for all.
        self._patience: deque[_Recording] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def moment(self) -> Moment:
        """Now."""
        at = self._clock.now()
        return Moment(at, int(at.timestamp() * 1000))

    def hit(
        self,
        moment: Moment,
        kind: Kind,
        method: Method,
        reader: Reader,
        peer: str,
        forwarded: Sequence[str],
        *,
        job_id: int = 0,
        link_id: int = 0,
        contact_id: int = 0,
        program_id: int = 0,
        how: str = "",
    ) -> Hit:
        """A request as a hit, taken at `moment`."""
        # Whoever may only be counted, or dated, came from nowhere.
        whole = (job_id or contact_id) and how != HYGIENE
        return Hit(
            uuid7(moment.unix_ms, next(self._entropy)),
            moment.at,
            kind,
            Method.PREFETCH if reader.prefetches and method is Method.GET else method,
            reader.agent,
            self._origins.origin(peer, forwarded) if whole else None,
            job_id=job_id,
            link_id=link_id,
            contact_id=contact_id,
            program_id=program_id,
            how=how,
        )

    def begin(self, hits: Sequence[Hit], now: float, then: Callable[[bool], None], *, alone: bool = False) -> None:
        """Have hits recorded that were taken together; `then` is called once: whether they are durable.

        Not, and counted so, when the disk refuses or is not done in JOURNAL_PATIENCE. `now`: by the loop's clock.
        `alone`: they wait for no others to share their sync.
        """
        asked = [(hit.kind, hit.method) for hit in hits]
        for which in set(asked):
            _COUNTED[which].inc(asked.count(which))
        recording = _Recording(hits, then, now + JOURNAL_PATIENCE)
        try:
            self._record(hits, partial(self._recorded, recording), alone)
        except Exception as error:  # noqa: BLE001 - a defect is no reason to keep people waiting
            self._recorded(recording, error)
            return
        self._patience.append(recording)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(recording.until, self._give_up, loop)

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """On those that the disk keeps waiting for too long."""
        waiting = self._patience
        try:
            while waiting and not (waiting[0].then and waiting[0].until > loop.time()):
                self._recorded(waiting.popleft(), TimeoutError())
        finally:  # whatever comes of telling one, the others are waited for
            self._timer = loop.call_at(waiting[0].until, self._give_up, loop) if waiting else None

    async def note(self, hit: Hit) -> bool:
        """Have the hit recorded, and wait for it; whether it is durable."""
        loop = asyncio.get_running_loop()
        noted: asyncio.Future[bool] = loop.create_future()

        def tell(durable: bool) -> None:
            if not noted.done():  # whoever waited may have gone
                noted.set_result(durable)

        self.begin([hit], loop.time(), tell)
        return await noted

    def _recorded(self, recording: _Recording, error: Exception | None) -> None:
        then, recording.then = recording.then, None
        if then is None:
            return  # they were given up on
        if error is None:
            self._refused = False
        else:
            self._refuse(recording.hits, error)
        then(error is None)

    def _refuse(self, hits: Sequence[Hit], error: Exception) -> None:
        for hit in hits:
            DROPPED.labels(kind=hit.kind).inc()
        if not self._refused:
            # Once: a line for each of 10,000 hits a second would fill what is left of the disk.
            log.error("hits cannot be journalled", extra={"why": str(error) or type(error).__name__})
        self._refused = True


def _entropy() -> Iterator[bytes]:
    """10 random bytes each, from a store: the system's call hands the interpreter to the journal's thread each time."""
    while True:
        for (ten,) in struct.iter_unpack("10s", os.urandom(STORED)):
            yield ten
