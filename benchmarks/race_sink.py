"""A receiver that notes when the DATA of each mail came, and can make senders wait for their last answer."""

import asyncio
import contextlib
import heapq
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import msgspec

# Whose mailboxes do not exist.
GONE = "gone"

# Seconds.
_UNUSED = 0.2

_EHLO = b"250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
_NO_MAILBOX = b"550 5.1.1 no such user\r\n"


class Data(msgspec.Struct, frozen=True, gc=False):
    """A DATA command: of which envelope sender, and when it had come (seconds since 1970)."""

    sender: str
    at: float


class RaceSink:
    """Takes all mail but that to `gone…`, and forgets its text.

    No mail gets its 250 until `allow` says to how many: so senders are never further ahead of
    what is done beside them, however slow that is.
    """

    def __init__(self) -> None:
        self.data: list[Data] = []
        self.answered = 0
        self.addresses: Sequence[tuple[str, int]] = ()
        # By port: transactions between MAIL and the end of their mail, sessions between an answer and
        # the next MAIL, and when the last answer was given.
        self.under_way: Counter[int] = Counter()
        self.free: Counter[int] = Counter()
        self._last: dict[int, float] = {}
        self._most = 0
        self._waiting: dict[_Session, None] = {}  # for the answer to their mail, by age
        self._reached: list[tuple[int, int, asyncio.Event]] = []  # a heap: mails, a number of its own

    def allow(self, most: int) -> None:
        """Answer up to so many mails in all."""
        self._most = max(self._most, most)
        while self._waiting and self.answered < self._most:
            self._answer(next(iter(self._waiting)))

    def nudge(self, port: int) -> None:
        """Answer one more there if all sessions wait: a mail ahead of all others needs one.

        Or if for a while none has used what the last answer gave it: it may be another worker's.
        """
        unused = time.monotonic() - self._last.get(port, 0.0) >= _UNUSED
        if not self.under_way[port] and (unused or not self.free[port]):
            session = next((one for one in self._waiting if one.port == port), None)
            if session:
                self._answer(session)

    async def reached(self, mails: int) -> None:
        """Return as soon as so many mails were answered."""
        if self.answered < mails:
            event = asyncio.Event()
            heapq.heappush(self._reached, (mails, id(event), event))
            await event.wait()

    def dot(self, session: "_Session") -> None:
        """A mail has come to its end."""
        self._waiting[session] = None
        self.allow(self._most)

    def gone(self, session: "_Session") -> None:
        """The connection has ended."""
        self._waiting.pop(session, None)

    def _answer(self, session: "_Session") -> None:
        del self._waiting[session]
        self.answered += 1
        self._last[session.port] = time.monotonic()
        session.taken()
        while self._reached and self._reached[0][0] <= self.answered:
            heapq.heappop(self._reached)[2].set()


class _Session(asyncio.Protocol):
    """One connection. What a client pipelines is answered in order."""

    def __init__(self, sink: RaceSink) -> None:
        self._sink = sink
        self._buffer = b""
        self._sender = ""
        self._recipients = 0
        self._under_way = False  # between MAIL and the end of the mail
        self._text = False  # between DATA and its dot
        self._transport: asyncio.Transport
        self._free = False  # between an answer and the next MAIL
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]
        transport.write(b"220 sink.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, end, rest = self._buffer.partition(b"\r\n.\r\n" if self._text else b"\r\n")
            if not end:
                return
            self._buffer = rest
            if self._text:
                self._text = False
                self._transaction(False)
                self._sink.dot(self)
            else:
                self._command(head)

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        answer = b"250 2.0.0 ok\r\n"
        if verb == b"EHLO":
            answer = _EHLO
        elif verb == b"MAIL":
            self._transaction(True)
            self._sender, self._recipients = line.partition(b"<")[2].partition(b">")[0].decode(), 0
        elif verb == b"RCPT":
            if line.partition(b"<")[2].startswith(GONE.encode()):
                answer = _NO_MAILBOX
            else:
                self._recipients += 1
        elif verb == b"DATA":
            self._sink.data.append(Data(self._sender, time.time()))
            self._text = self._recipients > 0
            if not self._recipients:
                self._transaction(False)
            answer = b"354 go on\r\n" if self._text else b"554 5.5.1 no valid recipients\r\n"
        elif verb == b"RSET":
            self._transaction(False)
        elif verb == b"QUIT":
            self._transport.write(b"221 2.0.0 bye\r\n")
            self._transport.close()
            return
        self._transport.write(answer)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transaction(False)
        self._sink.gone(self)

    def taken(self) -> None:
        """Its mail is answered."""
        self._transport.write(b"250 2.0.0 taken\r\n")
        self._is_free(True)

    def _transaction(self, under_way: bool) -> None:
        self._sink.under_way[self.port] += under_way - self._under_way
        self._under_way = under_way
        self._is_free(False)

    def _is_free(self, free: bool) -> None:
        self._sink.free[self.port] += free - self._free
        self._free = free


@contextlib.asynccontextmanager
async def race_sink(ports: int) -> AsyncIterator[RaceSink]:
    """It listens on so many ports of loopback inside the block, in this process."""
    sink = RaceSink()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(ports):
            server = await loop.create_server(lambda: _Session(sink), "127.0.0.1", 0)
            servers.append(await stack.enter_async_context(server))
        sink.addresses = [server.sockets[0].getsockname() for server in servers]
        yield sink
