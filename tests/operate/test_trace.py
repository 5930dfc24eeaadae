"""The operator's line to a worker: dialogues as they happen, for the owner of the state folder only."""

import asyncio
import contextlib
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mtad.base.clock import SystemClock
from mtad.ops import line
from mtad.ops.line import Request, answering, ask
from mtad.smtp.client import Client
from mtad.wire import trace as traces
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer, Session
from mtad.wire.trace import Look, Trace
from tests.wire.conftest import no_dns
from tests.wire.peer import Peer

SECRET = b"Subject: secret\r\n\r\nsecret body\r\n"


class Worker:
    """A dialler whose sessions can be looked at through a socket in `state`."""

    def __init__(self, state: Path, peer: Peer) -> None:
        self.state = state
        self.trace = Trace(SystemClock())
        self.peer = peer
        self._dialer = Dialer(
            "me.test", Resolver(SystemClock(), no_dns), SystemClock(), routed=[f"127.0.0.1:{peer.port}"],
            trace=self.trace,
        )  # fmt: skip

    async def open(self) -> Session:
        session = await self._dialer.open([self.peer.host])
        assert isinstance(session, Session), session
        return session

    async def send(self, session: Session, recipient: str) -> None:
        await session.send("b@us.test", recipient, SECRET, data_by=time.monotonic() + 100)

    async def deliver(self, *recipients: str) -> None:
        session = await self.open()
        for recipient in recipients:
            await self.send(session, recipient)
        await session.close()


@contextlib.asynccontextmanager
async def working(state: Path, peer: Peer, slot: int = 0) -> AsyncIterator[Worker]:
    worker = Worker(state, peer)
    async with answering(state, slot, worker.trace, lambda: {"slot": slot, "sessions": 3}):
        yield worker


async def looked(worker: Worker, request: Request, *recipients: str, lines: int) -> list[dict[str, Any]]:
    """What one who looks sees of these mails, up to so many lines."""
    found = []
    async with contextlib.aclosing(ask(worker.state, request)) as answers:
        first = asyncio.ensure_future(anext(answers))
        while not worker.trace._looks:  # noqa: ASYNC110 - it is the worker that has to get there
            await asyncio.sleep(0)
        await worker.deliver(*recipients)
        found.append((await first)[1])
        while len(found) < lines:
            found.append((await anext(answers))[1])
    return found


def said(lines: list[dict[str, Any]]) -> list[str]:
    return [f"{entry['who'] or '-'}: {entry['text']}" for entry in lines]


async def test_who_looks_sees_the_dialogue_without_the_body(tmp_path: Path) -> None:
    async with Peer(extensions=("PIPELINING",)) as peer, working(tmp_path, peer) as worker:
        found = await looked(worker, Request("trace"), "ann@x.test", lines=16)

    words = [text for text in said(found) if not text.startswith("server: 250-")]
    assert words[:3] == ["-: connected", "server: 220 peer.test ESMTP", "client: EHLO me.test"]
    assert words[words.index("client: MAIL FROM:<b@us.test>") :][:8] == [
        "client: MAIL FROM:<b@us.test>",
        "client: RCPT TO:<ann@x.test>",
        "client: DATA",
        "server: 250 2.1.0 sender fine",
        "server: 250 2.1.5 recipient fine",
        "server: 354 go on",
        "-: message written",
        "server: 250 2.0.0 queued as 1",
    ]
    assert "secret" not in str(found)
    assert {entry["session"] for entry in found} == {found[0]["session"]}


async def test_who_looks_at_a_domain_sees_only_its_mail(tmp_path: Path) -> None:
    async with Peer() as peer, working(tmp_path, peer) as worker:
        host = f"127.0.0.1:{peer.port}"
        request = Request("trace", (host,), "x.test")
        found = await looked(worker, request, "bob@y.test", "ann@X.test", "eve@y.test", lines=18)

    assert "ann@X.test" in str(found)
    assert "y.test" not in str(found)


async def test_sessions_with_other_servers_are_not_noted() -> None:
    look = Look(frozenset({"mx.x.test:25"}), "")
    trace = Trace(SystemClock())
    with trace.looking(look):
        assert type(trace.client("me", "mx.y.test [192.0.2.1]:25", try_tls=True)) is Client
        assert type(trace.client("me", "mx.x.test [192.0.2.1]:25", try_tls=True)) is not Client


async def test_a_session_that_is_open_is_seen_from_its_next_message_on(tmp_path: Path) -> None:
    async with Peer() as peer, working(tmp_path, peer) as worker:
        look = Look(frozenset(), "x.test")
        session = await worker.open()
        await worker.send(session, "early@x.test")
        with worker.trace.looking(look):
            await worker.send(session, "ann@x.test")
            lines, _ = await look.read()
        await worker.send(session, "late@x.test")
        await session.close()

    assert [entry.text for entry in lines if entry.text.startswith("RCPT")] == ["RCPT TO:<ann@x.test>"]
    assert {type(client) for client in worker.trace._clients} <= {Client}


async def test_while_nobody_looks_a_session_has_a_plain_client() -> None:
    trace = Trace(SystemClock())
    with trace.looking(Look(frozenset(), "")):
        pass

    assert type(trace.client("me", "mx.x.test [192.0.2.1]:25", try_tls=True)) is Client


async def test_a_look_that_is_not_read_costs_bounded_memory_and_is_told_what_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traces, "MOST_LINES", 2)
    look, trace = Look(frozenset(), ""), Trace(SystemClock())
    with trace.looking(look):
        client = trace.client("me", "mx.x.test [192.0.2.1]:25", try_tls=True)
        client.start()
        client.receive(b"220-one\r\n220-two\r\n220 three\r\n", SystemClock().now())
        lines, dropped = await look.read()

    assert [entry.text for entry in lines] == ["connected", "220-one"]
    assert dropped == 2


async def test_so_many_may_look_and_no_more() -> None:
    trace = Trace(SystemClock())
    with contextlib.ExitStack() as stack:
        seats = [stack.enter_context(trace.looking(Look(frozenset(), ""))) for _ in range(traces.MOST_LOOKS + 1)]

    assert seats == [True] * traces.MOST_LOOKS + [False]
    assert trace._looks == []


async def test_the_socket_is_the_owners_alone(tmp_path: Path) -> None:
    async with Peer() as peer, working(tmp_path, peer):
        path = tmp_path / line.FOLDER / "0.sock"

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_figures_come_from_every_worker_that_lives(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30)  # longer than a Unix socket's path may be
    deep.mkdir()
    async with Peer() as peer, working(deep, peer, 0), working(deep, peer, 1):
        (deep / line.FOLDER / "2.sock").touch()  # of a worker that was killed
        found = [answer async for answer in ask(deep, Request("figures"))]

    assert sorted(found) == [(0, {"slot": 0, "sessions": 3}), (1, {"slot": 1, "sessions": 3})]


async def test_a_socket_that_a_killed_worker_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / line.FOLDER).mkdir()
    (tmp_path / line.FOLDER / "0.sock").touch()
    async with Peer() as peer, working(tmp_path, peer):
        assert [slot async for slot, _ in ask(tmp_path, Request("figures"))] == [0]


@pytest.mark.parametrize("asked", [b"", b"nonsense\n", b'{"do": "dance"}\n', b"x" * 100_000])
async def test_who_asks_nonsense_gets_no_answer_and_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bytes
) -> None:
    monkeypatch.chdir(tmp_path)  # its full path may be longer than that of a Unix socket
    async with Peer() as peer, working(tmp_path, peer):
        reader, writer = await asyncio.open_unix_connection(f"{line.FOLDER}/0.sock")
        writer.write(asked)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()

        assert [slot async for slot, _ in ask(tmp_path, Request("figures"))] == [0]


async def test_without_a_worker_there_is_no_answer(tmp_path: Path) -> None:
    assert [answer async for answer in ask(tmp_path, Request("figures"))] == []
