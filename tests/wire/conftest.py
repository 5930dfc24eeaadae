"""What the tests of sockets share. Each runs on both event loops: one is used in production, one by others."""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping

import pytest
import uvloop

from mtad.base.clock import Clock, SystemClock
from mtad.smtp.results import Result, Stage
from mtad.wire.dns import Records
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer, Session
from mtad.wire.terms import Terms
from tests.wire.peer import Peer, server_context

MESSAGE = b"Subject: hi\r\n\r\n.body\r\n"
BIG = b"Subject: big\r\n\r\n" + (b".x" * 30 + b"\r\n") * 200_000  # 12 MB: more than all buffers on the way hold


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return server_context(tmp_path_factory.mktemp("tls"))


async def no_dns(name: str, kind: str) -> Records:
    raise AssertionError(f"nobody should ask DNS for {kind} {name}")


DialerTo = Callable[..., Dialer]


@pytest.fixture
def dialer_to() -> DialerTo:
    """Makes a dialler that may go to some peers; `hang` is the stage where it has little patience."""

    def make(*peers: Peer, hang: Stage | None = None, clock: Clock | None = None) -> Dialer:
        clock = clock or SystemClock()
        routed = [f"127.0.0.1:{peer.port}" for peer in peers]
        terms = Terms(timeouts={hang: 0.05} if hang else {})
        return Dialer("me.test", Resolver(clock, no_dns), clock, routed=routed, terms=terms)

    return make


async def opened(dialer_to: DialerTo, *peers: Peer, hang: Stage | None = None) -> Session:
    session = await dialer_to(*peers, hang=hang).open([peer.host for peer in peers])
    assert isinstance(session, Session), session
    return session


async def send(session: Session, message: bytes = MESSAGE) -> Result:
    return await session.send("b@us.test", "a@x.test", message, data_by=time.monotonic() + 100)
