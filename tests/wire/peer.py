"""A receiving server on loopback that does what a test tells it, byte by byte.

`script` says what it answers at a stage, first come first served; then it is polite:

    Peer({"RCPT": ["450 4.2.0 later", "550 5.1.1 no such user"]})

An answer is text (a line without CRLF; several lines with \\n between them), and may
end in one of these words, or be only that:

    CLOSE   close the connection         RESET   close it with RST
    HANG    say and read nothing more    DRIP    send the answer an octet at a time
    RAW     send the answer as it is, without CRLF
    SLOW    send the answer, at BODY read the message, an octet every 30 s
    LATE=N  wait for N s before the answer

The stage BODY is in the middle of a message, TLS where the handshake should be.
"""

import asyncio
import datetime as dt
import os
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
SLOW = 30.0
NEEDS = {"RCPT": "MAIL", "DATA": "RCPT"}
WORDS = ("CLOSE", "RESET", "HANG", "DRIP", "RAW", "SLOW")
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
        # Named TCP, or asyncio leaves Nagle's algorithm on, and an answer waits 40 ms for the one before.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
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
            if await self._say("CONNECT", writer):
                await self._converse(reader, writer)
        except (ConnectionError, EOFError, ssl.SSLError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        finally:
            del self._writers[task]
            self.gone.set()
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted: set[str] = set()
        goes_on = True
        while goes_on and (line := await self._line(reader)):
            stage, *arguments = line.upper().split() or [""]
            if stage == "BDAT":
                # It is read whatever comes of it (RFC 3030 section 2).
                chunk = await reader.readexactly(int(arguments[0]))
                if "RCPT" in accepted:
                    goes_on = await self._keep(chunk, writer)
                    accepted.clear()
                else:
                    writer.write(b"503 5.5.1 nobody to deliver to\r\n")
            elif NEEDS.get(stage, stage) not in {stage, *accepted} and not self._script.get(stage):
                writer.write(b"503 5.5.1 bad sequence\r\n")
            else:
                goes_on = await self._say(stage, writer) and stage != "QUIT"
                if goes_on and self._went_on:
                    goes_on = await self._follow(stage, reader, writer)
                    accepted.add(stage)
                if stage not in ("MAIL", "RCPT"):
                    accepted.clear()

    async def _follow(self, stage: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """What comes after a command that was accepted; False when the connection is over."""
        if stage == "DATA":
            return await self._message(reader, writer)
        if stage == "STARTTLS" and self._script.get("TLS"):
            return await self._say("TLS", writer)
        if stage == "STARTTLS" and self._tls:
            await writer.start_tls(self._tls)
        return True

    async def _line(self, reader: asyncio.StreamReader) -> str:
        line = (await reader.readline()).decode(errors="replace")  # a handshake, where there should be none
        if line:
            self.commands.append(line.rstrip("\r\n"))
        return line

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines: list[bytes] = []
        while lines[-1:] != [b".\r\n"]:
            if self._script.get("BODY", [])[:1] == ["SLOW"]:
                self._script["BODY"].pop(0)
                while await reader.read(1):  # noqa: ASYNC110 - it is slow, it waits for nothing
                    await asyncio.sleep(SLOW)
                return False
            if self._script.get("BODY"):
                await reader.read(1000)
                return await self._say("BODY", writer)
            if not (line := await reader.readline()):
                return False
            lines.append(line)
        return await self._keep(b"".join(lines), writer)

    async def _keep(self, message: bytes, writer: asyncio.StreamWriter) -> bool:
        if self._next("DOT").startswith("2"):
            self.messages.append(message)
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
        if last.startswith("LATE="):
            await asyncio.sleep(float(last[5:]))
        elif last not in WORDS:
            text, last = answer, ""
        wire = text.replace("\n", "\r\n").encode() + (b"" if last == "RAW" or not text else b"\r\n")
        for piece in [wire[at : at + 1] for at in range(len(wire))] if last in ("DRIP", "SLOW") else [wire]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(SLOW if last == "SLOW" else 0)
        if last == "HANG":
            self.hanging.set()
            await asyncio.Event().wait()
        if last == "RESET":
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return last not in ("CLOSE", "RESET")


def server_context(folder: Path) -> ssl.SSLContext:
    """With a self-signed certificate that has expired, as many receivers have."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer.test")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "peer.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
