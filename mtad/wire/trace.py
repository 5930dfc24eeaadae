"""Dialogues as they happen, for an operator who looks.

The dialler asks `Trace` for the client of each session that it opens. While nobody looks
that is a plain `Client`, and a message costs nothing; else those that a look fits, also
those that are open, become ones that note what is said. Bodies and passwords are never noted.

A look keeps at most MOST_LINES; one that is read too slowly loses the newest and is told
how many.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from weakref import WeakSet

import msgspec

from mtad.base.clock import Clock
from mtad.smtp.client import Client
from mtad.smtp.results import TooLate

MOST_LOOKS = 4
MOST_LINES = 2000
LONGEST = 1000  # characters of a line

_ids = count(1)


class Line(msgspec.Struct, frozen=True):
    """One line of a dialogue."""

    at: datetime
    session: int  # counted up in each worker
    host: str  # name, address and port of the server
    who: str  # client, server, or '' for what is said about them
    text: str


class Look:
    """What one who looks wants to see, and what was said meanwhile."""

    def __init__(self, hosts: frozenset[str], domain: str) -> None:
        """Dialogues with these servers ("host:port"; none is all), mails to this domain only ('' is any)."""
        self._hosts = hosts
        self._domain = domain
        self._lines: deque[Line] = deque()
        self._dropped = 0
        self._arrived = asyncio.Event()

    def wants_host(self, host: str) -> bool:
        """`host` as the client has it: "mx1.example.com [192.0.2.1]:25"."""
        name, port = host.partition(" ")[0], host.rpartition(":")[2]
        return not self._hosts or f"{name}:{port}" in self._hosts

    def wants_recipient(self, recipient: str) -> bool:
        return not self._domain or recipient.rpartition("@")[2].lower() == self._domain

    def note(self, line: Line) -> None:
        """Keep it until it is read; at MOST_LINES it is dropped."""
        if len(self._lines) >= MOST_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        self._arrived.set()

    async def read(self) -> tuple[list[Line], int]:
        """What came since, at least one line, and how many were dropped."""
        await self._arrived.wait()
        self._arrived.clear()
        lines, self._lines = list(self._lines), deque()
        dropped, self._dropped = self._dropped, 0
        return lines, dropped


class Trace:
    """Who looks, in this worker, and which clients there are to look at."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looks: list[Look] = []
        self._clients: WeakSet[Client] = WeakSet()

    @contextmanager
    def looking(self, look: Look) -> Iterator[bool]:
        """Note for `look` inside the block; False: too many look already, and it sees nothing."""
        room = len(self._looks) < MOST_LOOKS
        if not room:
            yield False
            return
        self._looks.append(look)
        self._fit(self._clients)
        try:
            yield True
        finally:
            self._looks.remove(look)
            self._fit(self._clients)

    def client(
        self,
        hostname: str,
        host: str,
        *,
        try_tls: bool,
        login: tuple[str, str] | None = None,
        ignored: Collection[str] = (),
    ) -> Client:
        """The client for a session that is about to be opened."""
        client = Client(hostname, host, try_tls=try_tls, login=login, ignored=ignored)
        client.number = next(_ids)
        self._clients.add(client)
        if self._looks:
            self._fit((client,), fresh=True)
        return client

    def _fit(self, clients: Iterable[Client], *, fresh: bool = False) -> None:
        """Have clients note what is wanted of them: they change their class, so that the others pay nothing."""
        for client in clients:
            looks = [look for look in self._looks if look.wants_host(client.host)]
            if not looks:
                client.__class__ = Client
                continue
            client.__class__ = TracedClient
            assert isinstance(client, TracedClient)
            client.note_for(looks, self._clock, fresh=fresh)


class TracedClient(Client):
    """A client that notes what is said. What is said about a mail to somebody else is not."""

    _looks: Sequence[Look] = ()  # those that see the present message

    def note_for(self, looks: Sequence[Look], clock: Clock, *, fresh: bool) -> None:
        """From here on; whom a message that is under way is for is not known."""
        self._all = looks
        self._clock = clock
        self._looks = [look for look in looks if fresh or look in self._looks or look.wants_recipient("")]

    def start(self) -> None:
        self._note("", "connected")
        super().start()

    def tls_started(self) -> None:
        self._note("", "TLS started")
        super().tls_started()

    def begin(
        self, return_path: str, recipient: str, message: bytes, data_by: float, safe_from: int | None = None
    ) -> None:
        self._looks = [look for look in self._all if look.wants_recipient(recipient)]
        super().begin(return_path, recipient, message, data_by, safe_from)

    def take(self, now: float) -> bytes:
        written = super().take(now)
        for line in written.splitlines():
            self._note("client", "AUTH PLAIN …" if line.startswith(b"AUTH ") else _text(line))
        return written

    def dot_written(self, at: datetime) -> None:
        self._note("", "message written")
        super().dot_written(at)

    def receive(self, data: bytes, at: datetime) -> None:
        for line in data.splitlines():
            self._note("server", _text(line))
        super().receive(data, at)

    def closed(self, why: str = "the server closed the connection") -> None:
        super().closed(why)
        if isinstance(self.result, TooLate):
            self._note("", why)

    def broke(self, why: str) -> None:
        if self.usable:
            self._note("", why)
        super().broke(why)

    def _note(self, who: str, text: str) -> None:
        line = Line(self._clock.now(), self.number, self.host, who, text)
        for look in self._looks:
            look.note(line)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")[:LONGEST]
