"""A tracker for tests without disk or database, and the addresses that lead to it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

from aiohttp import web

from mtad.base.clock import SystemClock
from tests.tracker.made import BROWSER, KEYS
from tracker import tokens
from tracker.hits import Hit
from tracker.links import Link
from tracker.noting import Told
from tracker.tokens import Purpose
from tracker.web import make_app, make_runner
from tracker.writer import Journal

AGENT = f"User-Agent: {BROWSER}\r\n"


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """The address of an application on loopback, http://HOST:PORT, while the block runs."""
    runner = make_runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Outside:
    """Stands for disk, database and links; each can be made to fail."""

    def __init__(self) -> None:
        self.hits: list[Hit] = []
        self.left: list[tuple[UUID, int, int, datetime, str]] = []
        self.links: dict[int, Link] = {}
        self.full = False
        self.away = False
        self.ready = True
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.base = ""

    def record(self, hits: Sequence[Hit], told: Told, _alone: bool) -> None:
        if self.full:
            raise OSError("No space left on device")
        self.hits += hits
        asyncio.get_running_loop().call_soon(told, None)

    async def unsubscribe(
        self, *, event_id: UUID, contact_id: int, program_id: int, at: datetime, how: str, late: bool = False
    ) -> None:
        assert not late
        assert self.full or [hit.event_id for hit in self.hits][-1] == event_id, "journalled first"
        self.asked.set()
        await self.gate.wait()
        if self.away:
            raise ConnectionRefusedError("away")
        self.left.append((event_id, contact_id, program_id, at, how))

    def get(self, link_id: int) -> Link | None:
        return self.links.get(link_id)

    async def find(self, link_id: int) -> bool:
        return not self.away


@asynccontextmanager
async def slowly() -> AsyncIterator[tuple[int, asyncio.Event, asyncio.Event]]:
    """A tracker's port, what is set when it has a hit to record, and what makes all of them durable."""
    outside = Outside()
    asked, durable = asyncio.Event(), asyncio.Event()

    def slow(_hits: Sequence[Hit], told: Told, _alone: bool) -> None:
        asked.set()
        asyncio.ensure_future(durable.wait()).add_done_callback(lambda _: told(None))

    app = make_app(
        keys=KEYS, links=outside, record=slow, unsubscribe=outside.unsubscribe, trusted_proxies=[],
        ready=lambda: True, clock=SystemClock(),
    )  # fmt: skip
    async with served(app) as base:
        yield int(base.rpartition(":")[2]), asked, durable


def appended(journal: Journal, hit: Hit) -> "asyncio.Future[None]":
    """Done when the hit is on disk; OSError when it cannot be."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def told(error: Exception | None) -> None:
        if error:
            done.set_exception(error)
        elif not done.done():
            done.set_result(None)

    journal.append([hit], told)
    return done


async def raw(outside: Outside, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send just these bytes; status, headers (names in lower case) and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(outside.base.rsplit(":", 1)[1]))
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    writer.close()
    return int(head[0].split()[1]), headers, body


def request(path: str, headers: str = AGENT, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """The bytes of a request."""
    return f"{method} {path} {version}\r\nHost: t.y.test\r\n{headers}\r\n".encode("latin-1")


def opened(job: int = 7, link: int = 3) -> str:
    return "/o/" + tokens.link_token(KEYS, Purpose.OPEN, job, link) + ".gif"


def clicked(job: int = 7, link: int = 3, values: tuple[str, ...] = ()) -> str:
    return tokens.click_url("", tokens.link_token(KEYS, Purpose.CLICK, job, link, values), values)


def leaving(contact: int = 11) -> str:
    return tokens.unsubscribe_url("", tokens.contact_token(KEYS, contact, 13))


def forged(path: str) -> str:
    """The same address with another MAC."""
    return path[:20] + ("A" if path[20] != "A" else "B") + path[21:]
