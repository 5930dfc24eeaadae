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
import gc
import math
import re
import select
import signal
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
)

READY = "ready\n"

# How long answers are waited for after the last request.
PATIENCE = 5.0

# A loop that turns so often sends and hears at most so late, which counts against the server; a shorter one
# would only burn the server's cores.
_TURN = 0.002

_EXACTLY = b"\r\nContent-Length: "
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_REFUSED = 400  # from this status on there is no answer that counts
_MOST_ANSWER = 4096  # read at once

# After a connection was refused, seconds.
_PAUSE = 0.05


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
    """Sends until told to stop, over connections that are opened anew when the server closes them.

    A loop around epoll that wakes every two milliseconds, asks for what is due and reads what has
    come: a Protocol on uvloop took three times as much of the cores that the server needs.
    """

    def __init__(self, port: int, paths: list[str], *, rate: float, connections: int, mark: int) -> None:
        self._port = port
        # Everything but the number is put together beforehand.
        lines = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: " for path in paths]
        rest = [f"{agent}\r\nX-Forwarded-For: fd{mark:02x}:" for agent in AGENTS]
        self._heads = [
            (lines[turn % len(lines)] + rest[turn % len(rest)]).encode("ascii")
            for turn in range(math.lcm(len(lines), len(rest)))
        ]
        self._rate = rate
        self._connections = connections
        self._epoll = select.epoll()
        self._wires: dict[int, _Wire] = {}
        self._idle: deque[_Wire] = deque()  # used in turn, so that none is closed for idling
        self._redial: deque[float] = deque()  # when a connection is to be opened
        self._failed: list[int] = []
        self._latencies = array("d")
        self._began = 0.0
        self._due = self._asked = 0  # numbers of the last request that was due, and that was sent
        self._stopping = False

    def stop(self) -> None:
        """Ask for nothing more; from another thread or a signal's handler, too."""
        self._stopping = True

    def run(self, ready: Callable[[], object], seconds: float = math.inf) -> Outcome:
        """Until `stop`, or for so long; then wait for the answers that are missing, and hang up.

        `ready` is called when all connections stand.
        """
        self._redial.extend([0.0] * self._connections)
        while len(self._idle) < self._connections and not self._stopping:
            self._turn()
        ready()
        self._began, cpu = time.perf_counter(), time.process_time()
        while not self._stopping and (passed := time.perf_counter() - self._began) < seconds:
            self._due = int(passed * self._rate)
            self._turn()
        passed, cpu = time.perf_counter() - self._began, time.process_time() - cpu
        while (
            len(self._latencies) + len(self._failed) < self._due
            and time.perf_counter() < self._began + passed + PATIENCE
        ):
            self._turn()
        self._failed += range(self._asked + 1, self._due + 1)
        for wire in list(self._wires.values()):
            self._close(wire)
        self._epoll.close()
        latencies = sorted(self._latencies)
        return Outcome(
            sent=self._due,
            seconds=passed,
            failed=sorted(self._failed),
            p50_ms=round(1000 * quantile(latencies, 0.5), 3),
            p99_ms=round(1000 * quantile(latencies, 0.99), 3),
            max_ms=round(1000 * quantile(latencies, 1.0), 3),
            cpu_us=round(cpu / max(1, self._due) * 1e6, 1),
        )

    def _turn(self) -> None:
        """Dial and ask for what is due, sleep, and take what has come."""
        while self._redial and self._redial[0] <= time.perf_counter():
            self._redial.popleft()
            self._dial()
        while self._asked < self._due and self._idle:
            self._ask(self._idle.popleft())
        time.sleep(_TURN)
        for number, happened in self._epoll.poll(0):
            wire = self._wires[number]
            if wire.opening:
                self._opened(wire, happened)
            else:
                self._hear(wire)

    def _ask(self, wire: "_Wire") -> None:
        self._asked = number = wire.number = self._asked + 1
        head = self._heads[(number - 1) % len(self._heads)]
        try:
            wire.socket.send(b"%b%x:%x::1\r\n\r\n" % (head, number >> 16, number & 0xFFFF))
        except OSError:
            self._close(wire)

    def _hear(self, wire: "_Wire") -> None:
        try:
            data = wire.socket.recv(_MOST_ANSWER)
        except OSError:
            data = b""
        if not data:
            self._close(wire)
        elif status := wire.answered(data):
            number, wire.number = wire.number, 0
            if status < _REFUSED:
                self._latencies.append(time.perf_counter() - self._began - number / self._rate)
            else:
                self._failed.append(number)
            self._idle.append(wire)

    def _dial(self) -> None:
        wire = _Wire(socket.socket())
        wire.socket.setblocking(False)
        wire.socket.connect_ex(("127.0.0.1", self._port))  # _opened hears what became of it
        self._wires[wire.socket.fileno()] = wire
        self._epoll.register(wire.socket, select.EPOLLOUT)

    def _opened(self, wire: "_Wire", happened: int) -> None:
        if happened & (select.EPOLLERR | select.EPOLLHUP):
            self._close(wire)
            return
        wire.opening = False
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._epoll.modify(wire.socket, select.EPOLLIN)
        self._idle.append(wire)

    def _close(self, wire: "_Wire") -> None:
        """Another takes its place; the request that it had is not answered any more."""
        if wire.number:
            self._failed.append(wire.number)
        if wire in self._idle:
            self._idle.remove(wire)
        del self._wires[wire.socket.fileno()]
        wire.socket.close()
        self._redial.append(time.perf_counter() + (_PAUSE if wire.opening else 0.0))


class _Wire:
    """One connection with one request at a time. Every answer has a length, the tracker's do."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.opening = True
        self.number = 0  # of the request that waits for its answer
        self._data = b""

    def answered(self, data: bytes) -> int:
        """The status, with what completes an answer; 0 as long as more is to come."""
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
            return 0
        self._data = b""
        return int(data[9:12])


def quantile(ordered: list[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed (nearest rank); 0.0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _say_ready() -> None:
    sys.stdout.write(READY)
    sys.stdout.flush()


def main() -> None:
    """Until SIGTERM or for --seconds."""
    parser = argparse.ArgumentParser(prog="benchmarks.openloop", description=__doc__.partition("\n")[2])
    parser.add_argument("--port", type=int, required=True, help="of the tracker, on 127.0.0.1")
    parser.add_argument("--paths", type=Path, required=True, help="a file with a path a line, used in turn")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=math.inf, help="default: until SIGTERM")
    parser.add_argument("--outcome", type=Path, metavar="FILE", help="write it there instead of to stdout")
    parser.add_argument("--mark", type=int, default=1, help="0 to 255; stands before the number of each request")
    wanted = parser.parse_args()
    paths = wanted.paths.read_text(encoding="ascii").split()
    if not paths or wanted.rate <= 0 or wanted.connections < 1:
        parser.error("--paths, --rate, --connections: one path at least, and above 0")

    load = Load(wanted.port, paths, rate=wanted.rate, connections=wanted.connections, mark=wanted.mark)
    signal.signal(signal.SIGTERM, lambda _number, _frame: load.stop())
    gc.disable()  # nothing here refers to itself
    outcome = msgspec.json.encode(load.run(_say_ready, wanted.seconds)) + b"\n"
    if wanted.outcome:
        wanted.outcome.write_bytes(outcome)
        sys.stdout.write(f"{wanted.outcome}\n")
    else:
        sys.stdout.buffer.write(outcome)


if __name__ == "__main__":
    main()
