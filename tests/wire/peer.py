"""The lab's sink, with what tests of sockets ask of it besides: what it heard, and ways to disturb it from outside."""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping, Sequence

from mtad.lab.certificate import server_context
from mtad.lab.sink import Sink

__all__ = ["EXTENSIONS", "Peer", "server_context"]

EXTENSIONS = ("PIPELINING", "SIZE 1000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


class Peer(Sink):
    """`async with Peer({"RCPT": ["450 4.2.0 later"]}) as peer:` listens at `peer.port`; the script is the sink's."""

    def __init__(
        self,
        script: Mapping[str, Sequence[str]] | None = None,
        *,
        extensions: Sequence[str] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(faults=script, name="peer.test", extensions=extensions, tls=tls, noted=self._hear)
        self.commands: list[str] = []  # of all connections
        self.hanging = asyncio.Event()
        self.gone = asyncio.Event()  # a client closed, or was closed

    @property
    def host(self) -> str:
        """For Dialer.open."""
        return f"0 127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many there have been."""
        return self.sessions

    @property
    def texts(self) -> list[bytes]:
        """The messages, dots not stuffed."""
        return [copy.message for copy in self.messages]

    @property
    def encrypted(self) -> list[bool]:
        """Of each message."""
        return [copy.encrypted for copy in self.messages]

    def hang_up(self) -> None:
        """Shut every connection down, at once and without a turn of the loop."""
        for dialogue in self._open:
            with socket.socket(fileno=os.dup(dialogue.transport.get_extra_info("socket").fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)

    def speak(self, line: str) -> None:
        """Say something that nobody asked for."""
        for dialogue in self._open:
            dialogue.transport.write(line.encode() + b"\r\n")

    def _hear(self, _session: int, who: str, text: str) -> None:
        match who, text:
            case "client", _:
                self.commands.append(text)
            case "", "gone":
                self.gone.set()
            case "", "hang":
                self.hanging.set()
