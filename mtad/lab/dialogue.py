"""One SMTP dialogue of the sink: RFC 5321, pipelining, chunking, STARTTLS, and whatever a script does to them.

It is a strict judge of what a client writes, and believes nothing: lines, messages and
what is kept of them are bounded.
"""

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Protocol

import msgspec

from mtad.base.clock import Clock
from mtad.lab.faults import Answer, Script, read_answer

SLOW = 30.0  # seconds an octet
MOST_LINE = 4096  # octets of a command: AUTH may have 12,288, but nothing that we send is as long
MOST_MESSAGE = 32 * 1024 * 1024
LONGEST = 998  # octets of a message's line without CRLF, RFC 5321 section 4.5.3.1.6
_CHUNK = 64 * 1024

_FROM = re.compile(r"FROM:<([^<>]*)>(?: .*)?", re.IGNORECASE)
_TO = re.compile(r"TO:<([^<>]+)>(?: .*)?", re.IGNORECASE)
NOBODY = "503 5.5.1 nobody to deliver to"
_ALWAYS = {
    "RSET": "250 2.0.0 reset",
    "NOOP": "250 2.0.0 fine",
    "HELP": "214 2.0.0 RFC 5321",
    "VRFY": "252 2.5.0 send it, and see",
    "QUIT": "221 2.0.0 bye",
}


class Manners(msgspec.Struct, frozen=True):
    """How the sink behaves to everybody. STARTTLS is offered where there is `tls`."""

    name: str
    extensions: Sequence[str]
    script: Script
    tls: ssl.SSLContext | None
    clock: Clock


class Mail(msgspec.Struct):
    """One transaction; its message as it was before dots were stuffed."""

    sender: str
    recipients: list[str] = msgspec.field(default_factory=list)
    message: bytes = b""


class Judge(Protocol):
    """Whom a dialogue asks, and tells."""

    def rcpt(self, address: str) -> str:
        """What to say to a recipient."""
        ...

    def dot(self, dialogue: "Dialogue", mail: Mail, scripted: Answer | None) -> Answer:
        """What to say to a message that has come whole."""
        ...

    def note(self, session: int, who: str, text: str) -> None:
        """`client` or `server` said this; of '' it is what happened: gone, and WORDS of mtad.lab.faults."""
        ...


class _Over(Exception):
    """We have closed the connection."""


class Dialogue:
    """One connection, from the banner on. `number` counts those of a sink from 1."""

    def __init__(
        self, manners: Manners, judge: Judge, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self.number = number
        self.port: int = writer.get_extra_info("sockname")[1]
        self.helo = ""
        self.writer = writer
        self._manners = manners
        self._judge = judge
        self._reader = reader
        self._buffer = bytearray()
        self._chunks = bytearray()
        self._mail: Mail | None = None

    @property
    def transport(self) -> asyncio.WriteTransport:
        """Of the connection."""
        return self.writer.transport

    @property
    def encrypted(self) -> bool:
        """TLS has been agreed on."""
        return self.writer.get_extra_info("ssl_object") is not None

    async def run(self) -> None:
        """Talk until either end is through with it; the connection is closed then, however it came."""
        try:
            await self._say(self._take("BANNER") or Answer(f"220 {self._manners.name} ESMTP"))
            while True:
                line = await self._until(b"\n", MOST_LINE)
                await self._hear(line.decode(errors="replace").rstrip("\r\n"))
        except _Over:
            await asyncio.sleep(0)  # uvloop writes at the end of a turn
        except (ConnectionError, EOFError, ssl.SSLError):
            pass  # the client is gone
        finally:
            self._judge.note(self.number, "", "gone")
            self.transport.abort()

    # Commands

    async def _hear(self, line: str) -> None:
        self._judge.note(self.number, "client", line)
        verb, _, argument = line.partition(" ")
        verb = verb.upper()
        if verb == "BDAT":
            await self._bdat(argument)
            return
        answer = self._take(verb) or self._polite(verb, argument)
        await self._say(answer)
        if answer.agrees:
            await self._follow(verb, argument)

    def _polite(self, verb: str, argument: str) -> Answer:
        match verb:
            case "EHLO":
                said = "\n250-".join([f"250-{self._manners.name}", *self._offers()]) + "\n250 HELP"
            case "HELO":
                said = f"250 {self._manners.name}"
            case "STARTTLS" if "STARTTLS" in self._offers():
                said = "220 2.0.0 go ahead"
            case "MAIL":
                said = self._said_to_sender(argument)
            case "RCPT":
                said = self._said_to_recipient(argument)
            case "DATA":
                said = "354 go on" if self._mail and self._mail.recipients else NOBODY
            case _:
                said = _ALWAYS.get(verb, "500 5.5.1 what?")
        return read_answer(said)

    def _offers(self) -> Sequence[str]:
        tls = ("STARTTLS",) if self._manners.tls and not self.encrypted else ()
        return (*self._manners.extensions, *tls)

    def _said_to_sender(self, argument: str) -> str:
        if not self.helo or self._mail:
            return "503 5.5.1 one message at a time" if self.helo else "503 5.5.1 say EHLO first"
        return "250 2.1.0 sender fine" if _FROM.fullmatch(argument) else "501 5.5.4 write MAIL FROM:<address>"

    def _said_to_recipient(self, argument: str) -> str:
        if not self._mail:
            return "503 5.5.1 say MAIL first"
        match = _TO.fullmatch(argument)
        return self._judge.rcpt(match[1]) if match else "501 5.5.4 write RCPT TO:<address>"

    async def _follow(self, verb: str, argument: str) -> None:
        """What comes of a command that we agreed to."""
        match verb:
            case "EHLO" | "HELO":
                self.helo, self._mail = argument, None
            case "MAIL":
                self._mail = Mail(_address(_FROM, argument))
            case "RCPT" if self._mail:
                self._mail.recipients.append(_address(_TO, argument))
            case "DATA":
                await self._data()
            case "STARTTLS":
                await self._starttls()
            case "RSET":
                self._mail = None
            case "QUIT":
                raise _Over

    async def _starttls(self) -> None:
        if fault := self._take("TLS"):
            await self._say(fault)
        elif self._manners.tls:
            # What was said in clear is forgotten: RFC 3207 section 4.2.
            self._buffer.clear()
            self.helo, self._mail = "", None
            await self.writer.start_tls(self._manners.tls)

    # Messages

    async def _data(self) -> None:
        if fault := self._take("BODY"):
            await self._interrupt(fault)
        self._buffer[:0] = b"\r\n"  # of the command, so that each line of the message begins behind one
        found = await self._until(b"\r\n.\r\n", MOST_MESSAGE)
        await self._deliver(found[:-3].replace(b"\r\n.", b"\r\n")[2:])

    async def _interrupt(self, fault: Answer) -> None:
        """Do this in the middle of a message, and then no more than read what comes."""
        if fault.then == "SLOW":
            while await self._reader.read(1):
                await self._manners.clock.sleep(SLOW)
        await self._reader.read(1000)
        await self._say(fault)
        while await self._reader.read(_CHUNK):
            pass
        raise EOFError

    async def _bdat(self, argument: str) -> None:
        """RFC 3030 section 2: a chunk is read whatever comes of it."""
        size, _, last = argument.partition(" ")
        if not size.isdecimal():
            await self._say(Answer("501 5.5.4 write BDAT octets", "CLOSE"))
        self._chunks += await self._exactly(int(size))
        if not self._mail or not self._mail.recipients:
            self._chunks.clear()
            await self._say(Answer(NOBODY))
        elif last.upper() == "LAST":
            message = bytes(self._chunks)
            self._chunks.clear()
            await self._deliver(message)
        else:
            await self._say(Answer(f"250 2.0.0 {size} octets"))

    async def _deliver(self, message: bytes) -> None:
        mail, self._mail = self._mail or Mail(""), None
        mail.message = message
        await self._say(self._judge.dot(self, mail, self._take("DOT") or _complaint(message)))

    # Octets

    def _take(self, stage: str) -> Answer | None:
        return self._manners.script.take(stage)

    async def _say(self, answer: Answer) -> None:
        """Say it, and do what comes of it. _Over when that is the end."""
        if answer.late:
            await self._manners.clock.sleep(answer.late)
        if answer.text:
            self._judge.note(self.number, "server", answer.text)
        if answer.then:
            self._judge.note(self.number, "", answer.then.lower())
        wire, octets = answer.wire, answer.then in ("DRIP", "SLOW")
        for piece in [wire[at : at + 1] for at in range(len(wire))] if octets else [wire]:
            self.writer.write(piece)
            await self.writer.drain()
            if octets:
                await self._manners.clock.sleep(SLOW if answer.then == "SLOW" else 0)
        if answer.then == "HANG":
            await asyncio.Event().wait()
        if answer.then == "RESET":
            raw: socket.socket = self.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if answer.then in ("CLOSE", "RESET"):
            raise _Over

    async def _until(self, end: bytes, most: int) -> bytes:
        """Read up to `end` and with it; EOFError when the client goes before."""
        seen = 0
        while (at := self._buffer.find(end, seen)) < 0:
            if len(self._buffer) > most:
                await self._say(Answer(f"500 5.5.2 more than {most} octets", "CLOSE"))
            seen = max(0, len(self._buffer) + 1 - len(end))
            await self._fill()
        return self._cut(at + len(end))

    async def _exactly(self, size: int) -> bytes:
        if size + len(self._chunks) > MOST_MESSAGE:
            await self._say(Answer(f"552 5.3.4 more than {MOST_MESSAGE} octets", "CLOSE"))
        while len(self._buffer) < size:
            await self._fill()
        return self._cut(size)

    async def _fill(self) -> None:
        octets = await self._reader.read(_CHUNK)
        if not octets:
            raise EOFError
        self._buffer += octets

    def _cut(self, size: int) -> bytes:
        cut = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return cut


def _address(pattern: re.Pattern[str], argument: str) -> str:
    """The address; '' where a script agreed to what has none."""
    match = pattern.fullmatch(argument)
    return match[1] if match else ""


def _complaint(message: bytes) -> Answer | None:
    """What is wrong with its lines (RFC 5321 sections 2.3.8 and 4.5.3.1.6); None: nothing."""
    lines = message.split(b"\r\n")
    if (longest := max(map(len, lines))) > LONGEST:
        return Answer(f"554 5.6.0 a line of {longest} octets")
    if message.count(b"\r") + message.count(b"\n") != 2 * (len(lines) - 1):
        return Answer("554 5.6.0 a line that does not end in CR LF")
    return None
