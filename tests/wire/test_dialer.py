"""Which host is dialled, in which order, and which never."""

import asyncio
import random
import socket

import pytest

from mtad.base.clock import SystemClock
from mtad.smtp.results import Lost, Refused, Stage
from mtad.wire.dns import Records, Unresolved
from mtad.wire.hosts import MAX_ADDRESSES
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer, Session
from mtad.wire.terms import Terms
from tests.wire.peer import Peer


def dialer(hosts: dict[str, list[str]], *, routed: list[str], seed: int = 1) -> Dialer:
    async def lookup(name: str, kind: str) -> Records:
        if name not in hosts:
            raise Unresolved(f"DNS of {name} timed out")
        return Records(hosts[name] if kind == "A" else [], 60)

    clock = SystemClock()
    return Dialer("me.test", Resolver(clock, lookup), clock, routed=routed, choice=random.Random(seed))


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def test_the_host_of_the_lowest_preference_is_tried_first() -> None:
    async with Peer() as first, Peer() as second:
        routed = [f"a.test:{first.port}", f"b.test:{second.port}"]
        opened = await dialer({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"]}, routed=routed).open(
            [f"20 b.test:{second.port}", f"10 a.test:{first.port}"]
        )
        assert isinstance(opened, Session)
        await opened.close()

    assert opened.host == f"a.test [127.0.0.1]:{first.port}"
    assert second.connections == 0


async def test_equal_hosts_share_the_load() -> None:
    async with Peer() as first, Peer() as second:
        hosts = [f"10 127.0.0.1:{first.port}", f"10 127.0.0.1:{second.port}"]
        one = dialer({}, routed=[host.partition(" ")[2] for host in hosts])
        for _ in range(40):
            opened = await one.open(hosts)
            assert isinstance(opened, Session)
            await opened.close()

    assert min(first.connections, second.connections) >= 10


@pytest.mark.parametrize("bad", ["421 4.3.2 busy CLOSE", "554 5.7.1 no service", "CLOSE", "garbage"])
async def test_the_next_host_is_tried_after_a_failure(bad: str) -> None:
    async with Peer({"BANNER": [bad]}) as first, Peer() as second:
        hosts = [f"10 127.0.0.1:{first.port}", f"20 127.0.0.1:{second.port}"]
        opened = await dialer({}, routed=[host.partition(" ")[2] for host in hosts]).open(hosts)
        assert isinstance(opened, Session)
        await opened.close()

    assert (first.connections, second.connections) == (1, 1)


async def test_the_next_host_is_tried_when_one_cannot_be_found_or_reached() -> None:
    async with Peer() as peer:
        dead = closed_port()
        hosts = [f"1 nowhere.test:{dead}", f"2 127.0.0.1:{dead}", f"3 127.0.0.1:{peer.port}"]
        opened = await dialer({}, routed=[host.partition(" ")[2] for host in hosts]).open(hosts)
        assert isinstance(opened, Session)
        await opened.close()


async def test_when_none_answers_the_last_failure_is_told() -> None:
    async with Peer({"BANNER": ["554 5.7.1 no service"]}) as peer:
        dead = closed_port()
        hosts = [f"10 127.0.0.1:{dead}", f"20 127.0.0.1:{peer.port}"]
        refused = await dialer({}, routed=[host.partition(" ")[2] for host in hosts]).open(hosts)
        lost = await dialer({}, routed=[f"127.0.0.1:{dead}"]).open(hosts[:1])

    assert isinstance(refused, Refused)
    assert refused.code == 554
    assert isinstance(lost, Lost)
    assert lost.stage is Stage.CONNECT
    assert "refused" in lost.why


async def test_a_site_without_hosts_is_lost() -> None:
    assert await dialer({}, routed=[]).open([]) == Lost(Stage.CONNECT, "there is no host to connect to", "")


async def test_a_host_that_dns_does_not_tell_of_now_is_lost() -> None:
    lost = await dialer({}, routed=[]).open(["10 mx.test:25"])

    assert lost == Lost(Stage.CONNECT, "DNS of mx.test timed out", "mx.test")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0", "::1", "fd00::1",
     "::ffff:10.0.0.1", "224.0.0.1"],
)  # fmt: skip
async def test_a_host_inside_our_network_is_not_dialled(address: str) -> None:
    """Even if somebody listens there: an MX record of a stranger must not get us to talk to it."""
    async with Peer() as peer:
        lost = await dialer({"mx.test": [address]}, routed=[]).open([f"10 mx.test:{peer.port}"])

    assert isinstance(lost, Lost)
    assert "no public address" in lost.why
    assert peer.connections == 0


async def test_dialling_ends_after_some_addresses() -> None:
    async with Peer({"BANNER": ["554 no service"] * 50}) as peer:
        hosts = [f"{rank} 127.0.0.1:{peer.port}" for rank in range(50)]
        refused = await dialer({}, routed=[f"127.0.0.1:{peer.port}"]).open(hosts)

    assert isinstance(refused, Refused)
    assert peer.connections == MAX_ADDRESSES


async def test_a_host_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    clock = SystemClock()
    hasty = Terms(timeouts={Stage.CONNECT: 0.01})
    one = Dialer("me.test", Resolver(clock), clock, routed=["127.0.0.1:25"], terms=hasty)
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)

    lost = await one.open(["10 127.0.0.1:25"])

    assert lost == Lost(Stage.CONNECT, "no connection within 0.01 s", "127.0.0.1 [127.0.0.1]:25")


@pytest.mark.parametrize("hostname", ["", "me.test\r\nMAIL FROM:<>", "me test"])
async def test_a_hostname_that_cannot_be_said_is_refused_at_once(hostname: str) -> None:
    clock = SystemClock()

    with pytest.raises(ValueError, match="cannot stand in an SMTP command"):
        Dialer(hostname, Resolver(clock), clock)
