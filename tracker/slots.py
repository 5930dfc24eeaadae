"""Slots and their segments: the journals of a machine, on disk, and who owns them.

A slot is a folder with segments ``0000000001.journal`` and a file ``lock``. Who
holds the flock on it owns the segments: the worker that writes there, or, after
its death, whoever adopts the orphan. The kernel drops the lock of the dead, so
there is no lease to expire. Folders are never removed: a lock on a file that
somebody else unlinked would be no lock.
"""

import fcntl
import itertools
import os
from collections.abc import Collection
from pathlib import Path

import msgspec
from prometheus_client import Counter

QUARANTINED = Counter("mtad_tracker_quarantined_total", "Segments of a journal put aside for what stands in them")

_SUFFIX = ".journal"
_ASIDE = ".bad"


class Segment(msgspec.Struct, frozen=True):
    """One file, of which `size` bytes may be read; `closed` when nobody will write to it.

    `whole` when this process closed it behind a record: then no tail of it can be torn.
    """

    path: Path
    size: int
    closed: bool
    whole: bool = False


class Slot:
    """A locked folder of segments. All methods block: call them in a thread."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def claim(cls, folder: Path) -> "Slot | None":
        """Own the folder, making it if need be; None while somebody else does."""
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return cls(folder, lock)

    def release(self) -> None:
        os.close(self._lock)

    def segments(self, writing: Path | None = None, durable: int = 0, whole: Collection[Path] = ()) -> list[Segment]:
        """The segments, oldest first; of the one being written only the `durable` bytes."""
        paths = sorted(path for path in self.folder.iterdir() if path.suffix == _SUFFIX)
        return [
            Segment(path, durable, closed=False)
            if path == writing
            else Segment(path, path.stat().st_size, closed=True, whole=path in whole)
            for path in paths
        ]

    def next_path(self) -> Path:
        """A name that sorts after all that are there."""
        # What was put aside comes back under any name.
        stems = [path.stem for path in self.folder.iterdir() if path.suffix == _SUFFIX]
        last = max((int(stem) for stem in stems if stem.isdecimal()), default=0)
        return self.folder / f"{last + 1:010}{_SUFFIX}"


def orphans(folder: Path) -> list[Path]:
    """The slots that nobody owns, and that hold something."""
    found = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        if slot := Slot.claim(path):
            try:
                if slot.segments():
                    found.append(path)
            finally:
                slot.release()
    return found


def put_aside(path: Path, records: bytes | None = None) -> Path:
    """Keep a segment, or some of its records, where nobody reads it; the new path.

    Whoever has mended what was wrong gives it the name of a segment again.
    """
    names = (path.with_name(f"{path.stem}.{number}{_ASIDE}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    if records is None:
        path.replace(aside)
    else:
        with os.fdopen(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(records)
            file.flush()
            os.fsync(file.fileno())
    QUARANTINED.inc()
    return aside


def sync_folder(folder: Path) -> None:
    """Have the names in it survive a loss of power."""
    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
