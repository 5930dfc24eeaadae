"""Where links lead: all of them in memory, so that a click asks nobody.

Rows of message_link are never changed and never deleted. So what is held cannot
be wrong, only incomplete; the snapshot on disk may be older; and the union of
the snapshots of all workers of this machine is right.
"""

import asyncio
import contextlib
import logging
import os
import re
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import msgspec

from mtad.base.clock import Clock
from mtad.base.db import AWAY

log = logging.getLogger("mtad.tracker")

# Ids are handed out before they are committed, so a lower one may appear after a
# higher one: each refresh looks again at so many below the highest known.
OVERLAP = 200

# Rows of one query; a first start with a million links takes fifty.
PAGE = 20_000

FOLDER = "links"  # of the snapshots, in the state folder
_SUFFIX = ".links"
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\\]*")
_PLACE = re.compile(r"\{(\d+)\}")


class Link(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One link of one message; `url` may hold {0}, {1} for values of the recipient."""

    url: str
    tracked: bool
    message_id: int


class Source(Protocol):
    """Where rows come from: the next `most` above an id, and some by id, in order of id."""

    async def __call__(self, after: int, missing: list[int], most: int, /) -> list[tuple[int, Link]]: ...


def destination(url: str, values: tuple[str, ...]) -> str:
    """The stored URL byte for byte, or its template filled with percent-encoded values.

    Scheme and host are never filled: they come from the message, not from a recipient.
    """
    if not values:
        return url
    authority = _AUTHORITY.match(url)
    start = authority.end() if authority else 0

    def value(place: re.Match[str]) -> str:
        number = int(place[1])
        return quote(values[number], safe="") if number < len(values) else place[0]

    return url[:start] + _PLACE.sub(value, url[start:])


class Links:
    """The map of all links, kept fresh by `run`; `get` never waits.

    `folder` is shared by the workers of a machine; `name` is this one's snapshot there.
    """

    def __init__(
        self, source: Source, folder: Path, name: str, clock: Clock, *, period: float = 5.0, pause: float = 1.0
    ) -> None:
        self._source = source
        self._folder = folder
        self._path = folder / f"{name}{_SUFFIX}"
        self._clock = clock
        self._period = period  # seconds between queries when nobody misses a link
        self._pause = pause  # and at least, when somebody does
        self._links: dict[int, Link] = {}
        self._missed: dict[int, asyncio.Future[bool]] = {}
        self._asked = asyncio.Event()
        self.loaded = False  # whether snapshots or the database have been read

    def get(self, link_id: int) -> Link | None:
        """One link, from memory."""
        return self._links.get(link_id)

    async def find(self, link_id: int, patience: float = 2.0) -> bool:
        """Have the database asked for a link that is not in memory; False when it gave no answer in time.

        All who miss something within a second share one query.
        """
        missed = self._missed.setdefault(link_id, asyncio.get_running_loop().create_future())
        self._asked.set()
        try:
            async with asyncio.timeout(patience):
                return await asyncio.shield(missed)
        except TimeoutError:
            return False

    async def run(self) -> None:
        """Read the snapshots, then the database, again and again, until cancelled."""
        self._links |= await asyncio.to_thread(read_snapshots, self._folder)
        self.loaded = bool(self._links)
        while True:
            self._asked.clear()
            missed, self._missed = self._missed, {}
            answered = await self._refresh(list(missed))
            for waiting in missed.values():
                waiting.set_result(answered)
            await self._clock.sleep(self._pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._period):
                    await self._asked.wait()

    async def _refresh(self, missing: list[int]) -> bool:
        """Fetch what is new or missing; False when the database did not answer."""
        before = len(self._links)
        after = max(self._links, default=0) - OVERLAP
        try:
            rows = await self._source(after, missing, PAGE)
            self._links.update(rows)
            while len(rows) >= PAGE:
                rows = await self._source(rows[-1][0], [], PAGE)
                self._links.update(rows)
        except AWAY as error:
            log.warning("links cannot be refreshed", extra={"why": str(error) or type(error).__name__})
            return False
        except Exception:
            # No schema yet, a statement that timed out, a defect: what is held still redirects.
            log.exception("links cannot be refreshed")
            return False
        self.loaded = True
        if len(self._links) > before:
            await self._save()
        return True

    async def _save(self) -> None:
        try:
            await asyncio.to_thread(write_snapshot, self._path, dict(self._links))
        except OSError as error:
            log.warning("the snapshot of links cannot be written", extra={"why": str(error)})


def has_snapshot(folder: Path) -> bool:
    """Whether somebody has known links here, so that mail may be out whose links must work."""
    return any(folder.glob(f"*{_SUFFIX}"))


def read_snapshots(folder: Path) -> dict[int, Link]:
    """The union of all snapshots in a folder; one that cannot be read is passed over."""
    found: dict[int, Link] = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            found |= msgspec.msgpack.decode(path.read_bytes(), type=dict[int, Link])
        except (OSError, msgspec.DecodeError) as error:
            log.warning("a snapshot of links cannot be read", extra={"path": str(path), "why": str(error)})
    return found


def write_snapshot(path: Path, links: dict[int, Link]) -> None:
    """Replace a snapshot as a whole: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.msgpack.encode(links))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
