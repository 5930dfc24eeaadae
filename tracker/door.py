"""The connections of recipients: plain requests are answered here, all others by aiohttp.

aiohttp's chain of parser, task, route, handler and response takes 70 µs a hit; this takes
a tenth of it. A connection begins here. With the first request that is not plain, or that
has another answer than pixel or redirect, it is handed over to aiohttp for good, with all
its bytes: nothing has been answered or noted of that request by then. So there is one
understanding of HTTP, and the answers here are those of aiohttp byte for byte.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import lru_cache
from typing import Protocol, cast

from tracker.hits import Hit
from tracker.noting import Moment
from tracker.plain import MOST_BYTES, Plain, read_plain

log = logging.getLogger("mtad.tracker")

# What is held of requests that come before the one in hand is answered; then the socket is not read.
MOST_HELD = 64 * 1024

# A head that is not complete is waited for here, as long as a connection may idle: aiohttp has no time
# limit for the first of them. One that is longer is refused, however it comes: aiohttp would take 1 MB.
MOST_HEAD = 16 * 1024
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

# Requests for pixels and links wait for each other so long, in seconds, unless ENOUGH have come: they come alone,
# between turns of the loop that send mail, and one that finds nothing of the code in the caches takes 60 µs
# instead of 20. A lone one does not wait.
APART = 0.016
ENOUGH = 24

# So many are taken in one turn of the loop at most, where many connections ask at once: at 20 to 60 µs each that
# is some 2 ms, and mail that is sent by the same loop waits no longer.
MOST = 64

_END = b"\r\n\r\n"
_HITS = (b"GET /o/", b"GET /c/")


class Answers(Protocol):
    """Plain requests and what they get."""

    def moment(self) -> Moment:
        """Now; said once for requests that are taken together."""

    def plain(self, request: Plain, moment: Moment, peer: str, /) -> tuple[bytes, Hit | None] | None:
        """What it gets, and what has to be noted first; None when it is not ours to answer."""

    def note(self, hits: Sequence[Hit], now: float, then: Callable[[bool], None], /) -> None:
        """`then` is called once, now or later, when all of them are noted or never will be. `now`: the loop's."""


class Doors:
    """All connections of one worker that are not aiohttp's."""

    def __init__(self, answers: Answers, *, keepalive: float) -> None:
        self.answers = answers
        self.keepalive = keepalive  # seconds that a connection may idle
        self.closing = False
        self.open: set[Door] = set()
        self._empty = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Door, bytes]] = []  # with requests that are whole
        self._begun = -math.inf  # when the latest of them were taken, by the loop's clock
        self._next: asyncio.Handle | None = None

    def wait(self, door: "Door", data: bytes) -> None:
        """Have a request taken with others that come at this time."""
        self._waiting.append((door, data))
        if self._next is None:
            wait = self._begun + APART - self._loop.time()
            self._next = self._loop.call_later(wait, self._take) if wait > 0 else self._loop.call_soon(self._take)
        elif len(self._waiting) == ENOUGH:
            self._next.cancel()
            self._next = self._loop.call_soon(self._take)

    def _take(self) -> None:
        self._next = None
        try:
            moment = self.answers.moment()
        except Exception:  # no door is taken out yet: they wait for the next
            self._next = self._loop.call_later(APART, self._take)
            raise
        waiting, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        if self._waiting:
            self._next = self._loop.call_soon(self._take)
        self.take(waiting, moment)

    def take(self, requests: Sequence[tuple["Door", bytes]], moment: Moment) -> None:
        """Answer requests, those that are hits when they are noted, or hand them over."""
        self._begun = self._loop.time()
        hits: list[Hit] = []
        answers: list[tuple[Door, bytes]] = []
        for door, data in requests:
            try:
                request = read_plain(data)
                answer = self.answers.plain(request, moment, door.peer) if request else None
            except Exception:  # noqa: BLE001 - a defect: aiohttp meets it again, and knows how to tell
                answer = None
            if answer is None:
                self._tell([(door, data)], Door.hand_over)
                continue
            response, hit = answer
            if hit is None:
                self._tell([(door, response)], Door.answer)
            else:
                hits.append(hit)
                answers.append((door, response))
        if not hits:
            return

        def tell(_durable: bool) -> None:
            self._tell(answers, Door.answer)
            answers.clear()  # whatever is said later: nobody is answered twice

        try:
            self.answers.note(hits, self._begun, tell)
        except Exception:  # a defect is no reason to keep people waiting
            log.exception("hits cannot be noted")
            tell(False)

    def _tell(self, doors: Sequence[tuple["Door", bytes]], what: Callable[["Door", bytes], None]) -> None:
        for door, data in doors:
            try:
                what(door, data)
            except Exception:  # a defect: the others are not to blame
                log.exception("a connection failed")
                door.abort()

    def forget(self, door: "Door") -> None:
        """It is closed, or aiohttp's."""
        self.open.discard(door)
        if not self.open:
            self._empty.set()

    async def shutdown(self, patience: float) -> None:
        """Close what idles, and the rest when it is answered, or after so many seconds."""
        self.closing = True
        self._empty.clear()
        for door in list(self.open):
            door.close_when_answered()
        if self.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._empty.wait()
        for door in list(self.open):
            door.abort()


class Door(asyncio.Protocol):
    """One connection, until it is closed or handed over to what `successor` makes."""

    def __init__(self, doors: Doors, successor: Callable[[], asyncio.Protocol]) -> None:
        self._doors = doors
        self._successor = successor
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.peer = ""
        self._busy = False  # a request waits for its answer
        self._full = False  # the client does not read
        self._held = b""
        self._begun = b""  # a request whose head is not complete
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no asyncio.Transport by descent.
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if peer else ""
        self._timer = self._loop.call_later(self._doors.keepalive, self._idle)
        self._doors.open.add(self)

    def data_received(self, data: bytes) -> None:
        if (
            data.startswith(_HITS)
            and data.endswith(_END)
            and len(data) <= MOST_BYTES
            and not (self._busy or self._full or self._begun)
        ):
            self._busy = True
            self._doors.wait(self, data)
        else:
            self._hear(data)

    def _hear(self, data: bytes) -> None:
        if self._busy or self._full:
            self._held += data
            if len(self._held) > MOST_HELD and self._transport is not None:
                self._transport.pause_reading()
            return
        if self._begun:
            data, self._begun = self._begun + data, b""
        else:
            self._heard = self._loop.time()
        end = data.find(_END)
        if (len(data) if end < 0 else end) > MOST_HEAD:
            self._refuse()
            return
        if end < 0:
            self._begun = data
            return
        self._busy = True
        self._doors.take([(self, data)], self._doors.answers.moment())

    def answer(self, response: bytes) -> None:
        """Say this to the request in hand."""
        self._busy = False
        if self._transport is None:
            return
        self._transport.write(response)
        self._heard = self._loop.time()
        if self._doors.closing:
            self._transport.close()
        elif self._held:
            self._go_on()

    def hand_over(self, data: bytes) -> None:
        """Leave the connection to aiohttp, from this request on."""
        if self._transport is None:
            return
        data, held, self._held = data + self._held, len(self._held), b""
        self._leave()
        successor = self._successor()
        self._transport.set_protocol(successor)
        successor.connection_made(self._transport)
        if held > MOST_HELD:
            self._transport.resume_reading()
        successor.data_received(data)  # which may pause it again

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as the protocol has it
        self._transport = None
        self._leave()

    def close_when_answered(self) -> None:
        """Close now, if nothing waits for an answer."""
        if not self._busy and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _go_on(self) -> None:
        if self._held and not self._busy and not self._full and self._transport is not None:
            held, self._held = self._held, b""
            if len(held) > MOST_HELD:
                self._transport.resume_reading()
            # In a turn of its own, so that no client's pipeline holds up the others.
            self._busy = True
            self._loop.call_soon(self._resume, held)

    def _resume(self, held: bytes) -> None:
        self._busy = False
        if self._transport is not None:
            data, self._held = held + self._held, b""
            self.data_received(data)

    def _refuse(self) -> None:
        assert self._transport is not None
        self._transport.write(_TOO_LONG)
        self._transport.close()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._doors.forget(self)

    def _idle(self) -> None:
        assert self._transport is not None
        left = self._heard + self._doors.keepalive - self._loop.time()
        if self._busy or left > 0:
            self._timer = self._loop.call_later(max(left, 1.0), self._idle)
        else:
            self._transport.close()


@lru_cache(maxsize=2)
def date_of(unix: int) -> bytes:
    """The value of the Date header at this time."""
    return formatdate(unix, usegmt=True).encode("ascii")
