"""FILE.rejects.csv: what was not taken from FILE, with line and reason.

Written beside the file in two steps, so that it appears only when the import that
it tells of is committed, and then whole: `stage` before the commit, `publish` after.
It holds addresses, so it is known where it stands: lines of who is erased leave it,
and it goes when its time has come. Only its own machine can do either.
"""

import asyncio
import csv
import io
import logging
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from mtad.audience.keyed import SuppressionKey
from mtad.audience.rows import Rejected
from mtad.base.address import parse_address
from mtad.base.db import Pool
from mtad.base.errors import InputError
from mtad.base.sqlfiles import queries

SQL = queries("privacy")

log = logging.getLogger("mtad.retention")


class RejectsFile:
    """The rejects of one file; `path` is where they will stand.

    A context manager: on leaving, what was staged and not published is gone.
    """

    def __init__(self, source: Path) -> None:
        self.path = source.with_name(f"{source.name.removesuffix('.csv')}.rejects.csv")
        self._staged: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._discard()

    def stage(self, rejected: Sequence[Rejected]) -> None:
        """Write them durably under another name; InputError when the folder cannot be written."""
        self._discard()
        if not rejected:
            return
        try:
            # Mode 600: the file holds addresses.
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            self._staged = Path(name)
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("line", "email", "reason"))
                writer.writerows((bad.line, bad.email, bad.reason) for bad in sorted(rejected, key=_place))
                file.flush()
                os.fsync(handle)
        except OSError as error:
            self._discard()
            raise InputError(f"{self.path}: cannot be written: {(error.strerror or str(error)).lower()}") from None

    def publish(self) -> Path | None:
        """Put what was staged in its place, or take an old file away when there is nothing."""
        if self._staged is None:
            self.path.unlink(missing_ok=True)
            return None
        self._staged.replace(self.path)
        self._staged = None
        return self.path

    def _discard(self) -> None:
        if self._staged is not None:
            self._staged.unlink(missing_ok=True)
            self._staged = None


def _place(bad: Rejected) -> tuple[int, str]:
    return bad.line, bad.reason


async def add_rejects_file(pool: Pool, path: Path | None) -> None:
    """Know of a file of rejects on this machine."""
    if path is not None:
        await pool.execute(SQL["add_rejects_file"], socket.gethostname(), _absolute(path))


async def take_lines_of(pool: Pool, address_key: str) -> list[str]:
    """Take the lines of an address out of the files on this machine; the paths of those that had some."""
    rows = await pool.fetch(SQL["rejects_files"], socket.gethostname())
    return [row[0] for row in rows if await _without(Path(row[0]), address_key.__eq__)]


async def take_lines_of_erased(pool: Pool, key: SuppressionKey, since: datetime | None) -> int:
    """Take lines of who was erased from another machine out of the files on this one; how many files had some.

    Of a file the lines of those who were erased after it was made, and after `since`, if that is given.
    """
    rows = await pool.fetch(SQL["erased_since_rejects"], socket.gethostname(), since)
    return sum([await _without(Path(path), lambda one, of=hashes: key.hash(one) in of) for path, hashes in rows])  # type: ignore[misc]


async def drop_old(pool: Pool, term: timedelta) -> int:
    """Delete the files on this machine that are older than `term`; how many."""
    host, removed = socket.gethostname(), 0
    for (path,) in await pool.fetch(SQL["old_rejects_files"], host, term):
        try:
            await asyncio.to_thread(Path(path).unlink, missing_ok=True)
        except OSError as error:
            # In somebody's home, where the service may not go: `mtad retention apply` may.
            log.warning("a file of rejects is too old", extra={"path": path, "why": error.strerror})
            continue
        await pool.execute(SQL["drop_rejects_file"], host, path)
        removed += 1
    return removed


async def _without(path: Path, gone: Callable[[str], bool]) -> bool:
    try:
        return await asyncio.to_thread(without_addresses, path, gone)
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        # Or somebody has put another file in its place.
        log.warning("a file of rejects may name who was erased", extra={"path": str(path), "why": str(error)})
    return False


def without_addresses(path: Path, gone: Callable[[str], bool]) -> bool:
    """Whether a file had lines with addresses whose key is `gone`: they are no more; its owner and mode stay.

    OSError, UnicodeDecodeError, csv.Error: nothing was changed.
    """
    # The folder is somebody's own, and we may be root: no link leads out of it, no pipe holds us up.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as old:
        was = os.fstat(old.fileno())
        rows = list(csv.reader(io.StringIO(old.read().decode(), newline="")))
    kept = [row for row in rows if len(row) < 2 or (key := _key_of(row[1])) is None or not gone(key)]
    if len(kept) == len(rows):
        return False
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(kept)
            file.flush()
            if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, was.st_uid, was.st_gid)
            os.fchmod(handle, stat.S_IMODE(was.st_mode))
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True


def _key_of(text: str) -> str | None:
    try:
        return parse_address(text).key
    except ValueError:
        return None


def _absolute(path: Path) -> str:
    return str(path.absolute())
