"""The load at a fixed rate against servers that answer as they are told."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network

import pytest

from benchmarks.hits import number_of
from benchmarks.openloop import Load, Outcome, _Wire
from tracker.origin import Origins

Answer = Callable[[bytes, int], Awaitable[bytes | None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """Ask `answer` for (request, its number); None closes the connection."""
    heads = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heads
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                heads += 1
                said = await answer(head, heads)
                if said is None:
                    return
                writer.write(said)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the load has hung up, or the server is closed
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def loaded(answer: Answer, *, requests: int, connections: int) -> tuple[Outcome, list[bytes]]:
    """The outcome of a load that stops once so many requests have been asked, and these."""
    asked: list[bytes] = []
    enough = asyncio.Event()

    async def noting(head: bytes, number: int) -> bytes | None:
        asked.append(head)
        if len(asked) >= requests:
            enough.set()
        return await answer(head, number)

    async with serving(noting) as port:
        load = Load(port, ["/a", "/b", "/c"], rate=500, connections=connections, mark=10)
        running = asyncio.create_task(asyncio.to_thread(load.run, lambda: None))
        await enough.wait()
        load.stop()
        return await running, asked


def number_asked(head: bytes) -> int:
    """The number of a request, as it is found in the network that the tracker keeps of it."""
    forwarded = head.decode().partition("X-Forwarded-For: ")[2].partition("\r\n")[0]
    network = Origins([ip_network("127.0.0.0/8")]).origin("127.0.0.1", [forwarded])
    assert network is not None
    assert network.startswith("fd0a:")
    return number_of(network)


async def ok(_head: bytes, _number: int) -> bytes:
    return b"HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\nok"


async def test_each_request_has_its_number_and_the_paths_come_in_turn() -> None:
    outcome, asked = await loaded(ok, requests=30, connections=1)

    assert len(asked) == outcome.sent == outcome.answered
    for number, head in enumerate(asked, 1):
        path = "/" + "abc"[(number - 1) % 3]
        assert head.startswith(f"GET {path} ".encode())
        assert number_asked(head) == number


async def test_wait_for_a_server_that_stands_still_counts_for_all_who_would_have_come() -> None:
    """With one connection, a closed loop would have one slow answer; here those that were due meanwhile waited too."""
    still = asyncio.Event()

    async def stands_still(head: bytes, number: int) -> bytes:
        if number == 1:
            asyncio.get_running_loop().call_later(0.2, still.set)
            await still.wait()
        return await ok(head, number)

    outcome, asked = await loaded(stands_still, requests=100, connections=1)

    # 500 a second over 0.2 s: the hundred that came then waited 100 ms in the middle.
    assert outcome.answered == len(asked)
    assert outcome.p50_ms > 10
    assert outcome.max_ms >= 190


async def test_refusals_and_lost_connections_are_failures_by_number() -> None:
    async def unwilling(head: bytes, number: int) -> bytes | None:
        if number == 3:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        return None if number == 5 else await ok(head, number)

    outcome, asked = await loaded(unwilling, requests=20, connections=2)

    gone = [number_asked(asked[place]) for place in (2, 4)]
    assert outcome.failed == sorted(gone)
    assert outcome.answered == outcome.sent - 2


def test_answer_may_come_in_pieces() -> None:
    with socket.socket() as never_asked:
        wire = _Wire(never_asked)
        pieces = (b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 4\r\n\r", b"\nab", b"cd")

        assert [wire.answered(piece) for piece in pieces] == [0, 0, 0, 200]
        assert wire.answered(b"".join(pieces).replace(b"200", b"302").replace(b"Content-L", b"content-l")) == 302


async def test_refused_connections_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    refused, ready = asyncio.Event(), asyncio.Event()
    close = Load._close

    def noting(load: Load, wire: _Wire) -> None:
        loop.call_soon_threadsafe(refused.set)
        close(load, wire)

    monkeypatch.setattr(Load, "_close", noting)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        load = Load(listener.getsockname()[1], ["/a"], rate=1, connections=2, mark=10)
        running = asyncio.create_task(asyncio.to_thread(load.run, partial(loop.call_soon_threadsafe, ready.set)))
        await refused.wait()
        assert not ready.is_set()
        listener.listen()
        await ready.wait()
        load.stop()

        assert (await running).failed == []
