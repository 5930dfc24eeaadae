"""One TCP connection that carries an SMTP dialogue: bytes between a transport and a smtp.Client.

A hand-written Protocol, because a stream costs an await per read and this is on
the path of every message: here a whole message is one await, whatever was said.
"""

import asyncio
import logging
import select
from collections.abc import Mapping, Sequence
from ssl import SSLContext, SSLObject
from typing import cast

from prometheus_client import Counter

from mtad.base.clock import Clock
from mtad.smtp.client import Client
from mtad.smtp.results import Stage
from mtad.smtp.waits import WATCHDOG

log = logging.getLogger("mtad.wire")

# Written at once; a longer message goes in pieces, each within the time for BODY.
PIECE = 64 * 1024

Encryption = tuple[str, str, tuple[str, ...]]
"""Version of TLS, cipher, and the subject of a certificate that was verified, "CN=mx.example.net"."""
CLEAR: Encryption = "", "", ()

# As KumoMTA's log has them (RFC 4514); other attributes are named in full.
_ATTRIBUTES = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
}

ENDED = Counter("mtad_watchdog_ended_total", "Deliveries that made no progress and were ended, by stage", ["stage"])


class Connection(asyncio.Protocol):
    """Drives `client` until it has a result; one waiter at a time."""

    def __init__(self, client: Client, clock: Clock, timeouts: Mapping[Stage, float]) -> None:
        self._client = client
        self._clock = clock
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._written = 0  # octets of client.body that were handed over
        self._full = False  # the transport asks us to pause
        self._patience = min(timeouts.values())
        self._begun = self._loop.time()  # when we were last asked for something, on the clock of the loop
        self._since = 0.0  # when the present wait began
        self._timer: asyncio.TimerHandle | None = None
        self._poll = select.poll()
        self.encryption = CLEAR
        self.local = ""  # our address

    # What the event loop tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another base class
        self.local = (transport.get_extra_info("sockname") or ("",))[0]  # none where it is closed already
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLHUP)
        self._client.start()
        self._turn(new=True)

    def data_received(self, data: bytes) -> None:
        client = self._client
        heard = client.heard
        client.receive(data, self._clock.now())
        self._turn(new=client.heard != heard)

    def connection_lost(self, exc: Exception | None) -> None:
        why = f"the connection broke ({exc})" if exc else "the server closed the connection"
        self._client.closed(why)
        self._turn(new=False)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._turn(new=True)

    # What the session asks for

    async def settled(self) -> None:
        """Say what is to be said and wait until the client waits for nothing more.

        It takes at most WATCHDOG seconds. Cancelled, or failing, it leaves no connection behind.
        """
        self._begun = self._loop.time()
        if self._turn(new=True):
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self.abort()
                raise
            finally:
                self._waiter = None

    async def start_tls(self, context: SSLContext, server_name: str | None) -> None:
        """Upgrade; a handshake that fails makes the client's result Lost at Stage.TLS."""
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_hostname=server_name,
                ssl_handshake_timeout=self._timeouts[Stage.TLS],
            )
        except OSError as error:  # ssl.SSLError and TimeoutError are some
            self._client.broke(f"the handshake failed ({error})")
            self.abort()
            return
        except asyncio.CancelledError:
            self.abort()
            raise
        if transport is None:
            self._client.closed()
            return
        self._transport = transport
        secured = transport.get_extra_info("ssl_object")
        self.encryption = secured.version() or "", secured.cipher()[0], _subject(secured)
        self._client.tls_started()

    def silent(self) -> bool:
        """Whether nothing came in that we have not read: on an idle session it would be its end.

        The loop learns of a closed connection at its next turn only; this asks the kernel.
        """
        return not self._transport.is_closing() and not self._poll.poll(0)

    def abort(self) -> None:
        """Close at once; what is not sent yet never will be."""
        self._client.usable = False
        self._stop_timer()
        self._transport.abort()

    # The loop without decisions

    def _waits_for(self) -> Stage | None:
        """The stage that the server must end; None when it is our turn."""
        client = self._client
        if client.wants_tls or client.result is not None or not client.usable:
            return None
        return client.stage

    def _turn(self, *, new: bool) -> bool:
        """Write what there is; True when the server has to speak now.

        `new`: something was said or done, so the time of the stage begins.
        """
        client = self._client
        commands = client.take(self._clock.monotonic())
        if client.body is not None and not self._full:
            self._write_body(commands, client.body)
            new = True
        elif commands:
            self._transport.write(commands)
            new = True
        if self._waits_for():
            if new:
                self._since = self._loop.time()
                if self._timer is None:
                    self._set_timer(self._patience)
            return True
        if not client.usable:
            self.abort()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return False

    def _write_body(self, commands: bytes, body: bytes) -> None:
        """As much of the message as the transport takes, in one write with the commands before it."""
        while not self._full:
            end = self._written + PIECE
            piece = body[self._written : end]
            if commands:
                piece, commands = commands + piece, b""
            if end >= len(body):
                self._written = 0
                self._client.dot_written(self._clock.now())
                self._transport.write(piece)
                return
            self._written = end
            self._transport.write(piece)

    # Time

    # The timer never fires later than the shortest wait that may begin after it was
    # set, so no message has to move it: it fires now and then and looks how things are.

    def _set_timer(self, seconds: float) -> None:
        self._timer = self._loop.call_later(min(seconds, self._patience), self._expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        stage = self._waits_for()
        if stage is None:
            return
        now = self._loop.time()
        left = min(self._since + self._timeouts[stage], self._begun + WATCHDOG) - now
        if left > 0:
            self._set_timer(left)
            return
        why = f"timed out after {self._timeouts[stage]:g} s"
        if now - self._begun >= WATCHDOG:
            why = f"ended by the watchdog after {WATCHDOG:g} s"
            ENDED.labels(stage=stage.value).inc()
            log.warning("no progress", extra={"host": self._client.host, "stage": stage.value, "seconds": WATCHDOG})
        self._client.broke(why)
        self._turn(new=False)


def _subject(secured: SSLObject) -> tuple[str, ...]:
    """Of the server's certificate, which the library tells where it was verified."""
    names = cast(Sequence[Sequence[tuple[str, str]]], (secured.getpeercert() or {}).get("subject", ()))
    return tuple(f"{_ATTRIBUTES.get(key, key)}={value}" for name in names for key, value in name)
