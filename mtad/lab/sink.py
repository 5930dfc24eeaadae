"""A receiving server whose behaviour is chosen by the recipient's address.

aiosmtpd on loopback, several ports if asked (a site each). What it accepts it keeps
in memory. `unknown-ada@x.test` is refused, `defer2-ada@x.test` is put off twice and
then accepted; the table BEHAVIOURS holds them all, and any other address is accepted.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

import msgspec
from aiosmtpd.smtp import SMTP, Envelope, Session

from mtad.base.clock import Clock, SystemClock

# aiosmtpd tells about every line that it reads.
logging.getLogger("mail.log").setLevel(logging.ERROR)

ACCEPTED = "250 2.0.0 taken as {number}"


class Behaviour(msgspec.Struct, frozen=True):
    """What an address makes the sink do, at RCPT or after the final dot."""

    at_rcpt: str = ""  # the refusal
    at_dot: str = ""  # the refusal
    waits: bool = False  # before the answer to the final dot
    closes: bool = False  # instead of that answer; the copy is kept


BEHAVIOURS = {
    "defer": Behaviour(at_rcpt="451 4.7.1 greylisted, try again later"),
    "full": Behaviour(at_rcpt="452 4.2.2 mailbox is full"),
    "unknown": Behaviour(at_rcpt="550 5.1.1 no such user here"),
    "spam": Behaviour(at_dot="554 5.7.1 refused by content filter"),
    "slow": Behaviour(waits=True),
    "drop": Behaviour(closes=True),
}
_NAMED = re.compile(rf"({'|'.join(BEHAVIOURS)})(\d*)-", re.IGNORECASE)


def behaviour_of(address: str, attempt: int) -> Behaviour:
    """How this address acts on its n-th attempt, counted from 1.

    `full-…` acts so every time, `full3-…` only on the first three attempts,
    which count per address, over all its mails.
    """
    match = _NAMED.match(address)
    if match is None or (match[2] and attempt > int(match[2])):
        return Behaviour()
    return BEHAVIOURS[match[1].lower()]


class Received(msgspec.Struct, frozen=True):
    """One copy of one message, as it came over the wire (CRLF, dots unstuffed)."""

    sender: str
    recipient: str
    message: bytes
    at: datetime
    answered: bool  # False: taken, but the connection was closed instead of a 250
    port: int
    session: int
    helo: str = ""  # what the sender says that it is

    def header(self, name: str) -> str:
        """The value of the first field of that name, unfolded; '' where there is none."""
        head = self.message.partition(b"\r\n\r\n")[0]
        pattern = rb"(?im)^" + re.escape(name.encode()) + rb":((?:[^\r\n]|\r\n[ \t])*)"
        match = re.search(pattern, head)
        return re.sub(r"\r\n[ \t]+", " ", match[1].decode("utf-8", "replace")).strip() if match else ""


class Sink:
    """`async with Sink() as sink:` receives on 127.0.0.1, `sink.port`, into `sink.messages`.

    `ports` is how many ports it listens on. `arrived` is called with each copy before
    it is answered. `slow-…` waits `slow` seconds of `clock`.
    """

    def __init__(
        self,
        *,
        ports: int = 1,
        slow: float = 1.0,
        arrived: Callable[[Received], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.messages: list[Received] = []
        self.sessions = 0
        self.attempts: Counter[str] = Counter()  # by address
        self.refused: Counter[str] = Counter()  # by reply
        self.ports: list[int] = []
        self._wanted = ports
        self._slow = slow
        self._arrived = arrived
        self._clock = clock or SystemClock()
        self._servers: list[asyncio.Server] = []
        self._open: set[_Connection] = set()
        self._changed = asyncio.Condition()

    @property
    def port(self) -> int:
        """The first port."""
        return self.ports[0]

    def copies(self) -> Counter[tuple[str, str]]:
        """How many copies came of each (recipient, Message-ID)."""
        return Counter((copy.recipient, copy.header("Message-ID")) for copy in self.messages)

    async def wait_for(self, count: int) -> None:
        """Return as soon as `count` copies or more have come."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.messages) >= count)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for _ in range(self._wanted):
            server = await loop.create_server(lambda: _Connection(self, loop), "127.0.0.1", 0)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        tasks = [task for connection in self._open if (task := connection.abort())]
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()

    # What aiosmtpd asks of a handler, by name.

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        del server, envelope
        session.host_name = hostname
        # aiosmtpd reads one command after the other from its buffer, so it can be pipelined.
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del server, session
        self.attempts[address] += 1
        if refusal := behaviour_of(address, self.attempts[address]).at_rcpt:
            self.refused[refusal] += 1
            return refusal
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 recipient ok"

    async def handle_DATA(self, server: "_Connection", session: Session, envelope: Envelope) -> str:  # noqa: N802
        recipient = envelope.rcpt_tos[0]
        behaviour = behaviour_of(recipient, self.attempts[recipient])
        if behaviour.at_dot:
            self.refused[behaviour.at_dot] += 1
            return behaviour.at_dot
        if behaviour.waits:
            await self._clock.sleep(self._slow)
        copies = [
            Received(
                sender=envelope.mail_from or "",
                recipient=to,
                message=bytes(envelope.original_content or b""),
                at=self._clock.now(),
                answered=not behaviour.closes,
                port=server.port,
                session=server.number,
                helo=session.host_name or "",
            )
            for to in envelope.rcpt_tos
        ]
        self.messages += copies
        if self._arrived is not None:
            for copy in copies:
                self._arrived(copy)
        async with self._changed:
            self._changed.notify_all()
        if behaviour.closes:
            server.abort()
            await asyncio.Event().wait()  # the loss of the connection cancels us
        return ACCEPTED.format(number=len(self.messages))


class _Connection(SMTP):
    """One connection to the sink; it knows its number and its port."""

    def __init__(self, sink: Sink, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(sink, hostname="sink.lab.test", ident="ESMTP lab sink", loop=loop, timeout=300)
        self._sink = sink
        self.number = 0
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sink.sessions += 1
        self.number = self._sink.sessions
        self.port = transport.get_extra_info("sockname")[1]
        self._sink._open.add(self)  # noqa: SLF001 - one class in two halves
        super().connection_made(transport)
        assert self._handler_coroutine is not None
        self._handler_coroutine.add_done_callback(_retrieved)

    def connection_lost(self, error: Exception | None) -> None:
        self._sink._open.discard(self)  # noqa: SLF001
        super().connection_lost(error)

    def abort(self) -> asyncio.Task[None] | None:
        """Close without another word; returns the task that ends by it."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()
        task: asyncio.Task[None] | None = self._handler_coroutine
        return task


def _retrieved(task: asyncio.Task[None]) -> None:
    """A client that was killed ends its task with ConnectionResetError, which is no news."""
    if not task.cancelled():
        task.exception()
