"""The journal of one worker: whatever `append` returned for survives kill -9 and loss of power."""

import asyncio
import contextlib
import itertools
import logging
import os
import threading
import time
from bisect import bisect
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from prometheus_client import Gauge

from tracker.hits import Hit, Kind
from tracker.journal import encode
from tracker.slots import Segment, Slot, sync_folder

log = logging.getLogger("mtad.tracker")

BYTES = Gauge("mtad_tracker_journal_bytes", "What stands in this worker's journal")
FULL = Gauge("mtad_tracker_journal_full", "1 while the journal is as big as it may be, and takes no opens and clicks")

# After a crash a whole segment is read again; 4 MiB are some 20,000 hits, a second's work.
SEGMENT_BYTES = 4 * 1024 * 1024

# While no group is written and nobody hurries, as for what aiohttp answers, the next begins so long after the
# latest began, in seconds, or when ENOUGH hits wait: the way to the thread and back costs a group 100 µs and the
# loop its turn. A lone hit does not wait.
APART = 0.008
ENOUGH = 24

# So many hits are a group at most, unless one entry has more: whoever waits for it is told in one turn of the loop.
GROUP = 512

# So many hits wait for the disk at most; all above are refused.
BOUND = 4096

# A segment that is written to is closed when it is so old, in seconds, so that with few hits
# too what is in Postgres leaves the disk.
MAX_AGE = 60.0

# Seconds until a slot that could not be had is tried again.
CLAIM_AGAIN = 1.0

# A worker's journal never gets bigger; at 200 bytes a hit and 2,000 a second that is 40 minutes
# without a database. What is more than a measurement may take a tenth more.
MAX_BYTES = 1 << 30
_MEASURING = frozenset({Kind.OPEN, Kind.CLICK, Kind.LOOK, Kind.PAGE})

T = TypeVar("T")

_Waiting = tuple[Sequence[Hit], Callable[[Exception | None], None]]


class Journal:
    """Appends hits in groups, one fdatasync a group, in a thread of its own.

    `folder` holds the slots of this machine. If `slot` is still owned by somebody,
    such as a predecessor that drains, a folder beside it is taken.
    """

    def __init__(
        self, folder: Path, slot: int, *, segment_bytes: int = SEGMENT_BYTES, max_bytes: int = MAX_BYTES
    ) -> None:
        self.folder = folder
        self.owned = asyncio.Event()  # set while `run` has its slot
        self.written = asyncio.Event()  # set after each group; whoever waits clears it
        self._name = str(slot)
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._bytes = 0  # in all segments, as far as is known
        self._opened = 0.0
        self._waiting: list[_Waiting] = []
        self._many = 0  # hits in it
        self._writing: list[_Waiting] = []
        self._begun = -APART  # when the latest group began, by the loop's clock
        self._next: asyncio.Handle | None = None  # begins the next group
        # What one thread does while `run` runs, so that listing, writing and rotating never interleave. An executor
        # would take 2 µs of what a hit costs for the future of its group.
        self._errands: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._over = False  # nobody does any more
        # Since `run` has tried to have a slot; before that hits wait, then they are written or refused.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slot: Slot | None = None
        self._fd = -1
        self._path: Path | None = None
        self._durable = 0
        self._whole: set[Path] = set()  # closed by us, and still there

    def append(self, hits: Sequence[Hit], told: Callable[[Exception | None], None], alone: bool = False) -> None:
        """`told` is called once: with None when the hits are on disk, or with why not. Waits until `run` runs.

        `alone`: no others are waited for, for a turn of the loop may take 20 ms. OSError when too many wait, or
        too much, or `run` has ended.
        """
        if self._over:
            raise OSError("the journal is closed")
        if self._many + len(hits) > BOUND:
            raise OSError("too many hits wait for the disk")
        if self._bytes >= self._max_bytes and (
            self._bytes >= self._max_bytes + self._max_bytes // 10 or any(hit.kind in _MEASURING for hit in hits)
        ):
            raise OSError(f"the journal is full: {self._bytes:,} bytes wait for the database")
        self._waiting.append((hits, told))
        self._many += len(hits)
        if alone and self._loop:
            self._begin_group(self._loop)
        elif self._next is None or self._many - len(hits) < ENOUGH <= self._many:
            self._plan()

    def complete_until(self, now: datetime) -> datetime:
        """The time before which every hit that was handed to `append` is on disk, or refused."""
        return min((hit.at for hits, _ in self._writing + self._waiting for hit in hits), default=now)

    async def segments(self) -> list[Segment]:
        """What may be read now of our own slot, oldest first."""
        return await self.in_thread(self._segments)

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Run blocking work on files, never at the same time as a write. RuntimeError when `run` has ended."""
        if self._over:
            raise RuntimeError("nobody does errands for the journal any more")
        return await self._errand(work, *arguments)

    async def run(self) -> None:
        """Own a slot and write until cancelled; then write what was handed over, and let go.

        Where there is no slot to be had, as on a full disk, hits are refused while it is tried again.
        """
        loop = asyncio.get_running_loop()
        BYTES.set_function(lambda: self._bytes)
        FULL.set_function(lambda: self._bytes >= self._max_bytes)
        threading.Thread(target=self._do_errands, name="journal", daemon=True).start()
        try:
            await self._own(loop)
            await loop.create_future()
        finally:
            while self._writing or self._waiting:
                self.written.clear()
                self._begin_group(loop)
                await self.written.wait()
            self.owned.clear()
            left = self._errand(self._leave)
            self._over = True
            self._errands.put(None)
            await left

    def _errand(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        done: Future[T] = Future()
        self._errands.put(partial(_fulfil, done, work, *arguments))
        return asyncio.wrap_future(done)

    async def _own(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self.owned.is_set():
            try:
                await self.in_thread(self._claim)
                self.owned.set()
            except OSError as error:
                log.error("the journal has no slot, hits are lost", extra={"why": str(error)})  # noqa: TRY400
            self._loop = loop
            self._plan()
            if not self.owned.is_set():
                await asyncio.sleep(CLAIM_AGAIN)

    def _plan(self) -> None:
        """Have the next group begin when it is time; while one is written, its end does."""
        loop = self._loop
        if self._writing or not self._waiting or not loop:
            return
        if self._next is not None:
            self._next.cancel()
        # Not in this turn of the loop: what arrives together shares a group.
        wait = 0.0 if self._many >= ENOUGH else self._begun + APART - loop.time()
        self._next = (
            loop.call_later(wait, self._begin_group, loop) if wait > 0 else loop.call_soon(self._begin_group, loop)
        )

    def _begin_group(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand what waits to the thread: whole entries, up to GROUP hits."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._writing or not self._waiting:
            return
        self._begun = loop.time()
        ends = list(itertools.accumulate(len(hits) for hits, _ in self._waiting))
        most = bisect(ends, GROUP) or 1
        self._writing, self._waiting = self._waiting[:most], self._waiting[most:]
        self._many -= ends[most - 1]
        self._errands.put(partial(self._write_group, self._writing, loop))

    def _told(self, errors: Sequence[Exception | None], loop: asyncio.AbstractEventLoop) -> None:
        """Each of the group is durable, or refused: tell those who wait for it."""
        group, self._writing = self._writing, []
        self.written.set()
        for (_, told), error in zip(group, errors, strict=True):
            try:
                told(error)
            except Exception:  # a defect: the others are not to blame
                log.exception("nobody hears that a hit is durable")
        self._begin_group(loop)  # what came meanwhile has waited

    # Below: in the thread.

    def _do_errands(self) -> None:
        while (errand := self._errands.get()) is not None:
            errand()

    def _write_group(self, group: list[_Waiting], loop: asyncio.AbstractEventLoop) -> None:
        records = [_records(hits) for hits, _ in group]
        errors = [None if isinstance(one, bytes) else one for one in records]
        try:
            self._write(b"".join([one for one in records if isinstance(one, bytes)]))
        except Exception as refused:  # noqa: BLE001 - those who wait decide what it means
            errors = [error or refused for error in errors]
        loop.call_soon_threadsafe(self._told, errors, loop)

    def _claim(self) -> None:
        names = itertools.chain([self._name], (f"{self._name}.{n}" for n in itertools.count(1)))
        self._slot = next(slot for name in names if (slot := Slot.claim(self.folder / name)))
        try:
            # The names of the slot and of the folder of slots must survive, as those of segments.
            sync_folder(self.folder)
            sync_folder(self.folder.parent)
            self._segments()
        except OSError:
            self._slot.release()
            self._slot = None
            raise

    def _leave(self) -> None:
        self._close()
        if self._slot:
            self._slot.release()
            self._slot = None

    def _segments(self) -> list[Segment]:
        if self._slot is None:
            return []
        if self._path is not None and time.monotonic() - self._opened > MAX_AGE:
            self._close()
        found = self._slot.segments(self._path, self._durable, self._whole)
        self._whole &= {segment.path for segment in found}
        self._bytes = sum(segment.size for segment in found)
        return found

    def _write(self, data: bytes) -> None:
        try:
            if self._path is None:
                self._open()
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            os.fdatasync(self._fd)
        except OSError:
            # A failed fdatasync may have dropped pages, and a second one says
            # nothing of them: this file is never written again.
            self._give_up()
            raise
        self._durable += len(data)
        self._bytes += len(data)
        if self._durable >= self._segment_bytes:
            self._close()

    def _open(self) -> None:
        if self._slot is None:
            raise OSError("the journal has no slot")
        path = self._slot.next_path()
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._path, self._durable, self._opened = path, 0, time.monotonic()
        # The name must survive too, or the bytes are nobody's.
        sync_folder(self._slot.folder)

    def _give_up(self) -> None:
        """Keep what is durable of the current segment and begin another with the next group."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._durable)
            if not self._durable:
                self._path.unlink()
        self._let_go()

    def _close(self) -> None:
        """End the current segment, all of which is durable."""
        if self._path is not None:
            self._whole.add(self._path)
        self._let_go()

    def _let_go(self) -> None:
        if self._path is not None:
            os.close(self._fd)
        self._fd, self._path, self._durable = -1, None, 0


def _records(hits: Sequence[Hit]) -> bytes | Exception:
    """Of one entry; or why it has none, such as a lone surrogate: the others of its group are not to blame."""
    try:
        return b"".join([encode(hit) for hit in hits])
    except Exception as error:  # noqa: BLE001 - those who wait decide what it means
        return error


def _fulfil(done: Future[T], work: Callable[..., T], *arguments: object) -> None:
    """Do what somebody waits for, unless he has gone."""
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(work(*arguments))
    except BaseException as error:  # noqa: BLE001 - who waits decides what it means
        done.set_exception(error)
