"""A receiving server whose behaviour is chosen by the recipient's address, or by a script of faults.

On loopback, several ports if asked (a site each). What it accepts it keeps in memory.
`unknown-ada@x.test` is refused, `defer2-ada@x.test` is put off twice and then accepted;
the table BEHAVIOURS holds them all, and any other address is accepted. What a server does
wrong whoever the mail is for, at any stage, is in mtad.lab.faults.
"""

import asyncio
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

import msgspec

from mtad.base.clock import Clock, SystemClock
from mtad.lab.dialogue import MOST_MESSAGE, Dialogue, Mail, Manners
from mtad.lab.faults import Answer, Script, read_answer

EXTENSIONS = ("PIPELINING", f"SIZE {MOST_MESSAGE}", "8BITMIME", "ENHANCEDSTATUSCODES")
ACCEPTED = "250 2.0.0 queued as {number}"

# So much is read ahead where a message is not to be read to its end.
_SMALL_BUFFER = 16 * 1024


class Behaviour(msgspec.Struct, frozen=True):
    """What an address makes the sink answer (mtad.lab.faults) at RCPT or after the final dot; '': what is polite."""

    at_rcpt: str = ""
    at_dot: str = ""


BEHAVIOURS = {
    "defer": Behaviour(at_rcpt="451 4.7.1 greylisted, try again later"),
    "full": Behaviour(at_rcpt="452 4.2.2 mailbox is full"),
    "unknown": Behaviour(at_rcpt="550 5.1.1 no such user here"),
    "spam": Behaviour(at_dot="554 5.7.1 refused by content filter"),
    "slow": Behaviour(at_dot="250 2.0.0 queued after all LATE=1"),
    "drop": Behaviour(at_dot="CLOSE"),
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
    answered: bool  # False: taken, but no 250 was said to its end
    port: int
    session: int
    helo: str = ""  # what the sender says that it is
    encrypted: bool = False

    def header(self, name: str) -> str:
        """The value of the first field of that name, unfolded; '' where there is none."""
        head = self.message.partition(b"\r\n\r\n")[0]
        pattern = rb"(?im)^" + re.escape(name.encode()) + rb":((?:[^\r\n]|\r\n[ \t])*)"
        match = re.search(pattern, head)
        return re.sub(r"\r\n[ \t]+", " ", match[1].decode("utf-8", "replace")).strip() if match else ""


class Sink:
    """`async with Sink() as sink:` receives on 127.0.0.1, `sink.port`, into `sink.messages`.

    `ports` is how many ports it listens on, or which. `faults` is a script (mtad.lab.faults); ValueError for a
    stage that is none. STARTTLS is offered where there is `tls`. `arrived` is called with each copy before it is
    answered, which is forgotten then unless `keeps`; `noted` with each line of a dialogue: session, `client` or
    `server`, text.
    """

    def __init__(
        self,
        *,
        ports: int | Sequence[int] = 1,
        faults: Mapping[str, Iterable[str]] | None = None,
        name: str = "sink.lab.test",
        extensions: Sequence[str] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        arrived: Callable[[Received], None] | None = None,
        keeps: bool = True,
        noted: Callable[[int, str, str], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.messages: list[Received] = []
        self.taken = 0  # copies
        self.sessions = 0
        self.attempts: Counter[str] = Counter()  # by address that chooses; of others there may be any number
        self.refused: Counter[str] = Counter()  # by reply, of what addresses chose
        self.ports: list[int] = []
        self._wanted = [0] * ports if isinstance(ports, int) else ports
        self._clock = clock or SystemClock()
        self._manners = Manners(name, extensions, Script(faults), tls, self._clock)
        self._reads_little = bool(faults)
        self._arrived = arrived
        self._keeps = keeps
        self._noted = noted
        self._servers: list[asyncio.Server] = []
        self._open: set[Dialogue] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @property
    def port(self) -> int:
        """The first port."""
        return self.ports[0]

    def copies(self) -> Counter[tuple[str, str]]:
        """How many copies came of each (recipient, Message-ID)."""
        return Counter((copy.recipient, copy.header("Message-ID")) for copy in self.messages)

    async def wait_for(self, count: int) -> None:
        """Return as soon as `count` copies or more have come."""
        while self.taken < count:
            self._changed.clear()
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        for port in self._wanted:
            server = await asyncio.start_server(self._connected, "127.0.0.1", port)
            listener = server.sockets[0]
            if self._reads_little:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
            self._servers.append(server)
            self.ports.append(listener.getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for dialogue in self._open:
            dialogue.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        dialogue = Dialogue(self._manners, self, reader, writer, self.sessions)
        self._open.add(dialogue)
        task = asyncio.create_task(self._talk(dialogue))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _talk(self, dialogue: Dialogue) -> None:
        try:
            await dialogue.run()
        finally:
            self._open.discard(dialogue)

    # What a dialogue asks, and tells.

    def rcpt(self, address: str) -> str:
        if _NAMED.match(address):
            self.attempts[address] += 1
        if refusal := behaviour_of(address, self.attempts[address]).at_rcpt:
            self.refused[refusal] += 1
        return refusal or "250 2.1.5 recipient fine"

    def dot(self, dialogue: Dialogue, mail: Mail, scripted: Answer | None) -> Answer:
        accepted = Answer(ACCEPTED.format(number=self.taken + len(mail.recipients)))
        answer = scripted or self._answer_to(mail) or accepted
        if answer.refuses:
            return answer
        for recipient in mail.recipients:
            copy = Received(
                sender=mail.sender,
                recipient=recipient,
                message=mail.message,
                at=self._clock.now(),
                answered=answer.agrees and answer.is_whole,
                port=dialogue.port,
                session=dialogue.number,
                helo=dialogue.helo,
                encrypted=dialogue.encrypted,
            )
            self.taken += 1
            if self._keeps:
                self.messages.append(copy)
            if self._arrived is not None:
                self._arrived(copy)
        self._changed.set()
        return answer

    def _answer_to(self, mail: Mail) -> Answer | None:
        """What the address of the first recipient chooses."""
        first = next(iter(mail.recipients), "")
        said = behaviour_of(first, self.attempts[first]).at_dot
        answer = read_answer(said) if said else None
        if answer and answer.refuses:
            self.refused[said] += 1
        return answer

    def note(self, session: int, who: str, text: str) -> None:
        if self._noted is not None:
            self._noted(session, who, text)
