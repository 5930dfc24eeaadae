"""What is written together, and that a defect of ours ends a session instead of leaving it for ever."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from mtad.base.clock import SystemClock
from mtad.smtp.client import Client
from mtad.smtp.results import Accepted
from mtad.smtp.waits import WAITS
from mtad.wire.connection import PIECE, Connection
from mtad.wire.session import Session
from tests.wire.peer import Peer

MESSAGE = b"Subject: hi\r\n\r\nbody\r\n"
TIMEOUTS = {stage: wait.seconds for stage, wait in WAITS.items()}
COMMANDS = b"MAIL FROM:<b@us.test>\r\nRCPT TO:<a@x.test>\r\n"
CHUNKS = b"250-peer\r\n250-CHUNKING\r\n250 PIPELINING\r\n"


class Wire(asyncio.Transport):
    """Keeps what is written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self._ends = socket.socketpair()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._ends[0] if name == "socket" else default

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        for end in self._ends:
            end.close()


class Line:
    """A connection that is greeted with `offers`."""

    def __init__(self, offers: bytes) -> None:
        self.wire = Wire()
        self.client = Client("me.test", "peer", try_tls=False)
        self.connection = Connection(self.client, SystemClock(), TIMEOUTS)
        self.connection.connection_made(self.wire)
        self.session = Session(self.client, self.connection)
        self.hear(b"220 hi\r\n", offers)
        self.wire.written.clear()

    def hear(self, *replies: bytes) -> None:
        for reply in replies:
            self.connection.data_received(reply)

    async def send(self, message: bytes, *answers: bytes) -> list[bytes]:
        """What was written, while the server gave these answers."""
        sending = asyncio.create_task(self.session.send("b@us.test", "a@x.test", message, data_by=float("inf")))
        await asyncio.sleep(0)
        self.hear(*answers)
        assert isinstance(await sending, Accepted)
        written, self.wire.written = self.wire.written, []
        return written


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    made: list[Line] = []
    yield made
    for line in made:
        line.connection.abort()


def line(lines: list[Line], offers: bytes) -> Line:
    lines.append(Line(offers))
    return lines[-1]


async def test_the_commands_of_a_message_are_one_write(lines: list[Line]) -> None:
    written = await line(lines, b"250-peer\r\n250 PIPELINING\r\n").send(
        MESSAGE, b"250 a\r\n250 b\r\n354 c\r\n", b"250 kept\r\n"
    )

    assert written == [COMMANDS + b"DATA\r\n", MESSAGE + b".\r\n"]


async def test_a_small_chunk_and_its_commands_are_one_write(lines: list[Line]) -> None:
    greeted = line(lines, CHUNKS)
    first = await greeted.send(MESSAGE, b"250 a\r\n250 b\r\n", b"250 kept\r\n")
    second = await greeted.send(MESSAGE, b"250 a\r\n250 b\r\n250 kept\r\n")

    assert first == [COMMANDS, b"BDAT 21 LAST\r\n" + MESSAGE]
    assert second == [COMMANDS + b"BDAT 21 LAST\r\n" + MESSAGE]


async def test_a_large_chunk_goes_in_pieces_when_it_is_wanted(lines: list[Line]) -> None:
    message = b"x" * PIECE + b"\r\n"

    written = await line(lines, CHUNKS).send(message, b"250 a\r\n", b"250 b\r\n", b"250 kept\r\n")

    assert written == [COMMANDS, b"BDAT %d LAST\r\n" % len(message) + message[:PIECE], message[PIECE:]]


class Faulty(Client):
    """Fails at the third answer."""

    def receive(self, data: bytes, at: datetime) -> None:
        if self.heard == 2:
            raise ZeroDivisionError("a defect")
        super().receive(data, at)


async def test_a_defect_of_ours_ends_the_session() -> None:
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    async with Peer() as peer:
        client = Faulty("me.test", "peer", try_tls=False)
        connection = Connection(client, SystemClock(), TIMEOUTS)
        await loop.create_connection(lambda: connection, "127.0.0.1", peer.port)
        await connection.settled()
        session = Session(client, connection)
        sending = session.send("b@us.test", "a@x.test", MESSAGE, data_by=float("inf"))
        result = await asyncio.wait_for(sending, 30)

    assert "MAIL" in str(result)
    assert not session.usable
    assert isinstance(told[0]["exception"], ZeroDivisionError)
