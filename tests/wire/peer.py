"""A receiving server on loopback that does what a test tells it, byte by byte.

`script` says what it answers at a stage, first come first served; then it is polite:

    Peer({"RCPT": ["450 4.2.0 later", "550 5.1.1 no such user"]})

An answer is text (a line without CRLF; several lines with \\n between them), and may
end in one of these words, or be only that:

    CLOSE   close the connection         RESET   close it with RST
    HANG    say and read nothing more    DRIP    send the answer an octet at a time
    RAW     send the answer as it is, without CRLF
"""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from typing import Self

POLITE = {
    "CONNECT": "220 peer.test ESMTP",
    "HELO": "250 peer.test",
    "STARTTLS": "220 2.0.0 go ahead",
    "RSET": "250 2.0.0 reset",
    "MAIL": "250 2.1.0 sender fine",
    "RCPT": "250 2.1.5 recipient fine",
    "DATA": "354 go on",
    "DOT": "250 2.0.0 queued as 1",
    "QUIT": "221 2.0.0 bye",
}
NEEDS = {"RCPT": "MAIL", "DATA": "RCPT"}
EXTENSIONS = ("PIPELINING", "SIZE 1000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


class Peer:
    """`async with Peer(...) as peer:` listens at `peer.port` and keeps what it hears."""

    def __init__(
        self,
        script: Mapping[str, Sequence[str]] | None = None,
        *,
        extensions: Sequence[str] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.commands: list[str] = []  # of all connections
        self.chunks: list[bytes] = []  # as they were read, of all connections
        self.messages: list[bytes] = []  # those answered 2xx, dots still stuffed
        self.connections = 0
        self.encrypted: list[bool] = []  # for each message
        self.hanging = asyncio.Event()
        self.gone = asyncio.Event()  # a client closed, or was closed
        self._script = {stage: list(answers) for stage, answers in (script or {}).items()}
        self._extensions = (*extensions, *(["STARTTLS"] if tls else []))
        self._tls = tls
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        # A small buffer, so that a message that nobody reads cannot be written.
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        listener.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=1 << 20)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        serving = list(self._writers)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def host(self) -> str:
        """For Dialer.open."""
        return f"0 127.0.0.1:{self.port}"

    def hang_up(self) -> None:
        """Shut every connection down, at once and without a turn of the loop."""
        for writer in self._writers.values():
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)

    def speak(self, line: str) -> None:
        """Say something that nobody asked for."""
        for writer in self._writers.values():
            writer.write(line.encode() + b"\r\n")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._writers[task] = writer
        try:
            if not await self._say("CONNECT", writer):
                return
            accepted: set[str] = set()
            while line := await self._line(reader):
                stage = line.split(" ")[0].strip().upper()
                if NEEDS.get(stage, stage) not in {stage, *accepted} and not self._script.get(stage):
                    writer.write(b"503 5.5.1 bad sequence\r\n")
                    continue
                if stage == "QUIT":
                    await self._say(stage, writer)
                    return
                if not await self._say(stage, writer):
                    return
                if stage == "DATA" and self._went_on and not await self._message(reader, writer):
                    return
                if stage == "STARTTLS" and self._tls and self._went_on:
                    await writer.start_tls(self._tls)
                if stage not in ("MAIL", "RCPT"):
                    accepted.clear()
                elif self._went_on:
                    accepted.add(stage)
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        finally:
            del self._writers[task]
            self.gone.set()
            writer.transport.abort()

    async def _line(self, reader: asyncio.StreamReader) -> str:
        line = (await reader.readline()).decode()
        if line:
            self.commands.append(line.rstrip("\r\n"))
        return line

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines: list[bytes] = []
        while lines[-1:] != [b".\r\n"]:
            if self._script.get("BODY"):
                await reader.read(1000)
                return await self._say("BODY", writer)
            if not (line := await reader.readline()):
                return False
            lines.append(line)
        accepted = self._next("DOT").startswith("2")
        if accepted:
            self.messages.append(b"".join(lines))
            self.encrypted.append(writer.get_extra_info("ssl_object") is not None)
        return await self._say("DOT", writer)

    def _next(self, stage: str) -> str:
        if answers := self._script.get(stage):
            return answers[0]
        if stage == "EHLO":
            return "\n".join(["250-peer.test", *(f"250-{name}" for name in self._extensions), "250 HELP"])
        return POLITE.get(stage, "500 5.5.1 what?")

    async def _say(self, stage: str, writer: asyncio.StreamWriter) -> bool:
        """Answer; False when the connection is over."""
        answer = self._next(stage)
        if answers := self._script.get(stage):
            answers.pop(0)
        self._went_on = answer[0] in "23"
        text, _, last = answer.rpartition(" ")
        if last not in ("CLOSE", "RESET", "HANG", "DRIP", "RAW"):
            text, last = answer, ""
        wire = text.replace("\n", "\r\n").encode() + (b"" if last == "RAW" or not text else b"\r\n")
        for piece in [wire[at : at + 1] for at in range(len(wire))] if last == "DRIP" else [wire]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if last == "HANG":
            self.hanging.set()
            await asyncio.Event().wait()
        if last == "RESET":
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return last not in ("CLOSE", "RESET")
