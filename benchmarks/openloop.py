"""Requests at a fixed rate, whatever the answers do: ``python -m benchmarks.openloop``, a process of its own.

A closed loop, such as wrk's, sends the next request when the one before was answered:
while the server stands still nothing is asked, and the wait of all who would have come
then is in no figure ("coordinated omission"). Here request k is due at k / rate seconds;
its latency counts from then, through a queue of our own if no connection is free.

Every request bears its number, so that each can be looked for in the database: as the network
of a client behind a proxy, which is what a request's origin looks like. Prints "ready" when all
connections stand; SIGTERM, or --seconds, ends it; the outcome is a line of JSON.
"""

import argparse
import asyncio
import contextlib
import re
import signal
import sys
import time
from array import array
from collections import deque
from pathlib import Path
from typing import cast

import msgspec
import uvloop

AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
)

READY = "ready\n"

# How long answers are waited for after the last request.
PATIENCE = 5.0

# A loop that turns so often sends at most so late; a shorter one would only burn the server's cores.
_TURN = 0.001

_EXACTLY = b"\r\nContent-Length: "
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_REFUSED = 400  # from this status on there is no answer that counts


class Outcome(msgspec.Struct, frozen=True):
    """What became of requests 1 to `sent`; those that were not answered with 2xx or 3xx stand in `failed`."""

    sent: int
    seconds: float
    failed: list[int]
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float  # of ours, a request: what the load itself takes from the machine

    @property
    def answered(self) -> int:
        return self.sent - len(self.failed)


class Load:
    """Sends until told to stop, over connections that are opened anew when the server closes them."""

    def __init__(self, port: int, paths: list[str], *, rate: float, connections: int, mark: int) -> None:
        self._port = port
        # Everything but the number is put together beforehand: the load must not be dearer than what it loads.
        self._lines = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: ".encode("ascii") for path in paths]
        self._rest = [f"{agent}\r\nX-Forwarded-For: fd{mark:02x}:".encode("ascii") for agent in AGENTS]
        self._rate = rate
        self._connections = connections
        self._waiting: deque[tuple[int, float]] = deque()  # number and when it was due
        self._idle: deque[_Wire] = deque()  # used in turn, so that none is closed for idling
        self._open: set[_Wire] = set()
        self._failed: list[int] = []
        self._latencies = array("d")
        self._sent = 0
        self._dialling: set[asyncio.Task[None]] = set()
        self.started = asyncio.Event()
        self.stopping = asyncio.Event()
        self._complete = False  # nothing more will be asked
        self._over = asyncio.Event()

    async def run(self) -> Outcome:
        """Until `stopping`; then wait for the answers that are missing, and hang up."""
        await asyncio.gather(*(self._dial() for _ in range(self._connections)))
        self.started.set()
        began, cpu = time.perf_counter(), time.process_time()
        self._turn(began)
        await self.stopping.wait()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        self._complete = True
        self._note_end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), PATIENCE)
        self._failed += [number for number, _ in self._waiting]
        self._waiting.clear()
        for wire in list(self._open):  # closing one notes what it still waits for
            wire.close()
        await asyncio.sleep(0)
        for task in self._dialling:
            task.cancel()
        latencies = sorted(self._latencies)
        return Outcome(
            sent=self._sent,
            seconds=seconds,
            failed=sorted(self._failed),
            p50_ms=round(1000 * quantile(latencies, 0.5), 3),
            p99_ms=round(1000 * quantile(latencies, 0.99), 3),
            max_ms=round(1000 * quantile(latencies, 1.0), 3),
            cpu_us=round(cpu / max(1, self._sent) * 1e6, 1),
        )

    def _turn(self, began: float) -> None:
        """Send what is due, again and again until `stopping`."""
        if self.stopping.is_set():
            return
        asyncio.get_running_loop().call_later(_TURN, self._turn, began)
        due = int((time.perf_counter() - began) * self._rate)
        while self._sent < due:
            self._sent += 1
            self._waiting.append((self._sent, began + self._sent / self._rate))
        self._send_waiting()

    def opened(self, wire: "_Wire") -> None:
        self._open.add(wire)
        self._idle.append(wire)

    def answered(self, wire: "_Wire", number: int, due: float, status: int) -> None:
        """One answer is complete; its connection takes the next request."""
        if status < _REFUSED:
            self._latencies.append(time.perf_counter() - due)
        else:
            self._failed.append(number)
        self._idle.append(wire)
        self._send_waiting()
        self._note_end()

    def closed(self, wire: "_Wire", number: int) -> None:
        """A connection is gone, with request `number` unless 0; another takes its place."""
        self._open.discard(wire)
        if wire in self._idle:
            self._idle.remove(wire)
        if number:
            self._failed.append(number)
        self._note_end()
        if not self.stopping.is_set():
            task = asyncio.create_task(self._dial())
            self._dialling.add(task)
            task.add_done_callback(self._dialling.discard)

    def _note_end(self) -> None:
        if self._complete and len(self._latencies) + len(self._failed) >= self._sent:
            self._over.set()

    def _send_waiting(self) -> None:
        while self._waiting and self._idle:
            number, due = self._waiting.popleft()
            self._idle.popleft().send(
                number,
                due,
                b"%b%b%x:%x::1\r\n\r\n"
                % (
                    self._lines[(number - 1) % len(self._lines)],
                    self._rest[number % len(self._rest)],
                    number >> 16,
                    number & 0xFFFF,
                ),
            )

    async def _dial(self) -> None:
        while not self.stopping.is_set():
            try:
                await asyncio.get_running_loop().create_connection(lambda: _Wire(self), "127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return


class _Wire(asyncio.Protocol):
    """One connection with one request at a time. Every answer has a length, the tracker's do."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._number, self._due = 0, 0.0
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no asyncio.Transport by descent.
        self._transport = cast("asyncio.Transport", transport)
        self._load.opened(self)

    def send(self, number: int, due: float, request: bytes) -> None:
        assert self._transport is not None
        self._number, self._due = number, due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._data:
            data = self._data + data
        head = data.find(b"\r\n\r\n")
        # As the tracker writes it; looking for it in any case of letters takes 4 µs.
        place = data.find(_EXACTLY, 0, head)
        if place > 0:
            length = int(data[place + len(_EXACTLY) : data.index(b"\r", place + 2)])
        else:
            found = _LENGTH.search(data, 0, head) if head > 0 else None
            length = int(found[1]) if found else 0
        if head < 0 or len(data) < head + 4 + length:
            self._data = data
            return
        number, self._number, self._data = self._number, 0, b""
        self._load.answered(self, number, self._due, int(data[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as the protocol has it
        self._load.closed(self, self._number)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def quantile(ordered: list[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed (nearest rank); 0.0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def main() -> None:
    """Until SIGTERM or for --seconds."""
    parser = argparse.ArgumentParser(prog="benchmarks.openloop", description=__doc__.partition("\n")[2])
    parser.add_argument("--port", type=int, required=True, help="of the tracker, on 127.0.0.1")
    parser.add_argument("--paths", type=Path, required=True, help="a file with a path a line, used in turn")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, help="default: until SIGTERM")
    parser.add_argument("--outcome", type=Path, metavar="FILE", help="write it there instead of to stdout")
    parser.add_argument("--mark", type=int, default=1, help="0 to 255; stands before the number of each request")
    wanted = parser.parse_args()
    paths = wanted.paths.read_text(encoding="ascii").split()
    if not paths or wanted.rate <= 0 or wanted.connections < 1:
        parser.error("--paths, --rate, --connections: one path at least, and above 0")

    async def run() -> Outcome:
        load = Load(wanted.port, paths, rate=wanted.rate, connections=wanted.connections, mark=wanted.mark)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, load.stopping.set)
        running = asyncio.create_task(load.run())
        await load.started.wait()
        sys.stdout.write(READY)
        sys.stdout.flush()
        if wanted.seconds:
            loop.call_later(wanted.seconds, load.stopping.set)
        return await running

    outcome = msgspec.json.encode(uvloop.run(run())) + b"\n"
    if wanted.outcome:
        wanted.outcome.write_bytes(outcome)
        sys.stdout.write(f"{wanted.outcome}\n")
    else:
        sys.stdout.buffer.write(outcome)


if __name__ == "__main__":
    main()
