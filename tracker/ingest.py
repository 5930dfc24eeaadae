"""From the journal into Postgres, each hit once, however often this is interrupted.

How far a segment was read stands in memory only: after a crash it is read again,
and the ids of the events make that harmless. A segment is deleted when all of it
is in the database and nobody writes to it any more.
"""

import asyncio
import contextlib
import errno
import logging
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol
from uuid import UUID

import msgspec
from prometheus_client import Counter, Gauge

from mtad.base.clock import Clock
from mtad.base.db import AWAY, WRONG_DATA, Pool, in_transaction
from tracker import store
from tracker.hits import Hit, Kind
from tracker.journal import decode, encode, may_be_torn
from tracker.slots import Segment, Slot, orphans, put_aside
from tracker.views import queue_views
from tracker.writer import Journal

log = logging.getLogger("mtad.tracker")

INGESTED = Counter("mtad_tracker_ingested_total", "Hits written to Postgres")
DAMAGED = Counter("mtad_tracker_journal_damaged_total", "Records of a journal that could not be read")
LAG = Gauge("mtad_tracker_journal_lag_seconds", "Age of the oldest hit that may not be in Postgres yet")

# One transaction: 20 ms at 50,000 rows a second.
BATCH = 1000

# Who receives nothing any more has read all that it will have received by then, however long it takes to leave.
NO_MORE = timedelta(days=30)

# So long, in seconds, an unsubscribe that failed by a defect is left alone.
REST = 10.0

# So long, in seconds, a segment that the disk does not give back is tried again before it is put aside.
PATIENCE = 300.0

# A round that brings as many is followed by a longer pause, and by one of so many times what it took
# where the cores are wanted for delivery too.
MANY, TIMES = 32, 3.0


class Unsubscribe(Protocol):
    """Commits one unsubscribe, once per event id; what it raises is retried. `late`: it is told by the journal."""

    async def __call__(
        self, *, event_id: UUID, contact_id: int, program_id: int, at: datetime, how: str, late: bool = False
    ) -> object: ...


class _Kept(Exception):
    """A record could not be put aside: its segment is read again."""


class _Owed(msgspec.Struct):
    """An unsubscribe that nobody could commit when it came, and the segment that it keeps."""

    path: Path
    hit: Hit
    rests_until: float = -math.inf  # by the monotonic clock


class Ingest:
    """Reads our own slot and the orphans beside it until cancelled.

    After each round the worker's row says up to when every hit that this worker
    received is in Postgres. `worker` is its id, None while it has none.
    """

    def __init__(
        self,
        pool: Pool,
        journal: Journal,
        unsubscribe: Unsubscribe,
        worker: Callable[[], int | None],
        clock: Clock,
        *,
        period: float = 0.5,
    ) -> None:
        self._pool = pool
        self._journal = journal
        self._unsubscribe = unsubscribe
        self._worker = worker
        self._clock = clock
        self._period = period
        self._read: dict[Path, int] = {}
        # Segments of which no hit can be in the database yet but those that we brought there.
        self._new: set[Path] = set()
        self._owed: dict[UUID, _Owed] = {}
        self._brought = 0  # hits of the latest round
        self._until = clock.now()  # all that was received by then is in the database
        self._moved = asyncio.Event()
        # Segments with damage in them: kept aside when all else of them is in the database.
        self._damaged: set[Path] = set()
        self._failing: dict[Path, float] = {}  # since when the disk does not give them back, by the monotonic clock
        self._withheld: OSError | None = None  # why a segment could not be read in this round
        self._stuck: OSError | None = None  # why one that is in the database whole could not be removed

    async def run(self) -> None:
        """Ingest until cancelled. A database that is away is waited for; nothing is given up."""
        await self._journal.owned.wait()
        while True:
            self._journal.written.clear()
            began = self._clock.monotonic()
            try:
                await self.round()
                pause = self._pause(self._clock.monotonic() - began)
            except AWAY as error:
                log.warning("hits stay in the journal", extra={"why": str(error) or type(error).__name__})
                pause = 1.0
            except Exception:
                # Wrong data or a defect. The journal keeps everything; the lag tells.
                log.exception("hits stay in the journal")
                pause = 5.0
            LAG.set((self._clock.now() - self._until).total_seconds())
            await self._clock.sleep(pause)
            with contextlib.suppress(TimeoutError):
                # Without hits of our own, too, others' are judged only when we say that we have none.
                async with asyncio.timeout(self._period / 2):
                    await self._journal.written.wait()

    def _pause(self, took: float) -> float:
        """What comes meanwhile shares the next batch: a round costs the same whatever it brings."""
        if self._brought < MANY:
            return self._period / 10
        return min(max(self._period / 2, TIMES * took), self._period)

    async def finish(self) -> None:
        """Nothing is appended any more: return when all of it is in the database, and that is said there."""
        begun = self._clock.now()
        while self._until < begun or self._owed:
            self._moved.clear()
            self._journal.written.set()
            await self._moved.wait()
        worker = self._worker()
        if worker is not None:
            async with self._pool.acquire() as conn:
                await store.set_ingested_until(conn, worker, begun + NO_MORE)

    async def round(self) -> datetime:
        """Ingest what is durable now; the time up to which all is in Postgres. OSError when some could not be read,
        or not be removed.
        """
        until = self._journal.complete_until(self._clock.now())
        self._brought, self._withheld, self._stuck = 0, None, None
        await self._pay()
        await self._ingest(await self._journal.segments())
        # First what the dead left here: their rows count until somebody says that he has read past their death.
        await self._adopt()
        if self._withheld:
            raise self._withheld  # nobody knows of when its hits are
        worker = self._worker()
        if worker is not None:
            async with self._pool.acquire() as conn:
                await store.set_ingested_until(conn, worker, until)
        self._until = until
        self._moved.set()
        if self._stuck:
            raise self._stuck
        return until

    async def _adopt(self) -> None:
        """Ingest the slots whose workers are gone. In every round, for what it ends with says that it was done."""
        for folder in await self._journal.in_thread(orphans, self._journal.folder):
            slot = await self._journal.in_thread(Slot.claim, folder)
            if slot is None:
                continue
            try:
                await self._ingest(await self._journal.in_thread(slot.segments))
            finally:
                # Its next owner may begin again at the same names.
                self._read = {path: read for path, read in self._read.items() if path.parent != folder}
                # Here and now: cancelled, we may be later than the end of the journal's thread.
                slot.release()

    async def _ingest(self, segments: list[Segment]) -> None:
        """Whatever the disk refuses of one segment, the others go on."""
        for segment in segments:
            try:
                read = await self._ingest_segment(segment)
            except _Kept:
                continue
            kept_for = [owed.path for owed in self._owed.values()]
            if read and segment.closed and segment.path not in kept_for:
                try:
                    await self._remove(segment.path)
                except OSError as error:
                    self._stuck = error

    async def _remove(self, path: Path) -> None:
        """All of it is in the database; what is damaged is kept where nobody reads it."""
        if path in self._damaged:
            aside = await self._journal.in_thread(put_aside, path)
            log.error("a damaged segment is put aside", extra={"segment": str(aside)})
        else:
            await self._journal.in_thread(path.unlink)
        self._read.pop(path, None)
        self._new.discard(path)
        self._damaged.discard(path)
        self._failing.pop(path, None)

    async def _ingest_segment(self, segment: Segment) -> bool:
        """Read on where we stopped; the offset moves only after the commit. False when it is to be tried again."""
        if segment.path not in self._read and not segment.closed:
            self._new.add(segment.path)
        start = self._read.setdefault(segment.path, 0)
        try:
            data = await self._journal.in_thread(_read, segment.path, start, segment.size)
        except OSError as error:
            if not self._is_lost(segment, error):
                self._withheld = error
                return False
            log.exception("a segment of the journal cannot be read", extra={"segment": str(segment.path)})
            self._damaged.add(segment.path)
            return True
        self._failing.pop(segment.path, None)
        offset = 0
        while (found := decode(data, offset, BATCH)).hits or found.bad:
            DAMAGED.inc(found.bad)
            if found.bad:
                self._damaged.add(segment.path)
            await self._write_all(segment.path, found.hits)
            offset = found.end
            self._read[segment.path] = start + offset
        if segment.closed and offset < len(data):
            self._pass_over_tail(segment, data[offset:])
        return True

    def _is_lost(self, segment: Segment, error: OSError) -> bool:
        """Whether the disk has refused it for long; any other error, such as too many open files, is mended once."""
        if error.errno != errno.EIO or not segment.closed:
            return False
        since = self._failing.setdefault(segment.path, self._clock.monotonic())
        return self._clock.monotonic() - since >= PATIENCE

    def _pass_over_tail(self, segment: Segment, tail: bytes) -> None:
        """What stands behind the last record of a segment that nobody writes to any more."""
        if segment.whole or not may_be_torn(tail):
            DAMAGED.inc()
            self._damaged.add(segment.path)
        else:
            # Torn by a crash: nobody was told that these bytes are durable.
            log.info("a torn tail is left behind", extra={"segment": str(segment.path), "bytes": len(tail)})
        self._read[segment.path] = segment.size

    async def _write_all(self, path: Path, hits: list[Hit]) -> None:
        """Write hits; one that the database refuses for what stands in it is put aside, and holds up nobody."""
        try:
            await self._write(path, hits)
        except WRONG_DATA:
            if len(hits) > 1:
                for half in (hits[: len(hits) // 2], hits[len(hits) // 2 :]):
                    await self._write_all(path, half)
                return
            try:
                aside = await self._journal.in_thread(put_aside, path, encode(hits[0]))
            except OSError as error:
                self._withheld = error
                self._new.discard(path)  # what stands before it is read again
                raise _Kept from error
            log.exception("a hit that the database refuses is put aside", extra={"segment": str(aside)})

    async def _write(self, path: Path, hits: list[Hit]) -> None:
        self._brought += len(hits)
        left = [hit for hit in hits if hit.kind is Kind.UNSUBSCRIBE]
        if left:
            async with self._pool.acquire() as conn:
                known = await store.known_events(conn, [hit.event_id for hit in left])
            for hit in left:
                if hit.event_id not in known:
                    self._owed.setdefault(hit.event_id, _Owed(path, hit))
            await self._pay()
        others = [hit for hit in hits if hit.kind is not Kind.UNSUBSCRIBE]
        new = path in self._new
        if not new:
            # Read before, maybe, by us or by one who is gone: what was judged since must not wait again,
            # for while a hit waits nobody is silent.
            async with self._pool.acquire() as conn:
                known = await store.known_events(conn, [hit.event_id for hit in others])
            others = [hit for hit in others if hit.event_id not in known]
        if views := [hit for hit in others if hit.kind is Kind.PAGE]:
            INGESTED.inc(await in_transaction(self._pool, lambda conn: queue_views(conn, views)))
            others = [hit for hit in others if hit.kind is not Kind.PAGE]
        if others:
            self._new.discard(path)  # until it is committed, nobody knows whether it is
            INGESTED.inc(await in_transaction(self._pool, lambda conn: store.ingest(conn, others, new=new)))
            if new:
                self._new.add(path)

    async def _pay(self) -> None:
        """Commit the unsubscribes that nobody could commit when they came.

        One that fails for another reason than an absent database must not hold up
        the hits behind it, nor be forgotten: its segment stays until it succeeds.
        """
        for event_id, owed in list(self._owed.items()):
            if owed.rests_until > self._clock.monotonic():
                continue
            hit = owed.hit
            try:
                await self._unsubscribe(
                    event_id=event_id,
                    contact_id=hit.contact_id,
                    program_id=hit.program_id,
                    at=hit.at,
                    how=hit.how,
                    late=True,
                )
            except AWAY:
                raise
            except Exception:
                log.exception("an unsubscribe failed and will be tried again", extra={"event": str(event_id)})
                owed.rests_until = self._clock.monotonic() + REST
            else:
                del self._owed[event_id]


def _read(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)
