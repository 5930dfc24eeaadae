"""What a session leaves by."""

import pytest

from mtad.base.clock import SystemClock
from mtad.smtp.results import Lost, Stage
from mtad.wire.egress import Egress, Unbound
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer, Session
from tests.pipeline.receiver import Receiver
from tests.wire.conftest import no_dns


def dialer(receiver: Receiver) -> Dialer:
    clock = SystemClock()
    return Dialer("me.test", Resolver(clock, no_dns), clock, routed=[f"127.0.0.1:{receiver.port}"])


@pytest.mark.parametrize(
    ("egress", "peer", "name"),
    [
        (Egress(), "127.0.0.1", "me.test"),
        (Egress("127.0.0.2", hostname="two.test"), "127.0.0.2", "two.test"),
        (Egress("127.0.0.3", "::1"), "127.0.0.3", "me.test"),
    ],
)
async def test_a_session_leaves_by_its_address_and_says_its_name(egress: Egress, peer: str, name: str) -> None:
    async with Receiver() as receiver:
        opened = await dialer(receiver).open([f"0 127.0.0.1:{receiver.port}"], egress=egress)
        assert isinstance(opened, Session)
        await opened.close()

    assert receiver.names == {peer: name}


async def test_an_address_that_cannot_be_bound_is_no_fault_of_the_server() -> None:
    async with Receiver() as receiver:
        one, hosts = dialer(receiver), [f"0 127.0.0.1:{receiver.port}"]
        gone = await one.open(hosts, egress=Egress("192.0.2.1"))
        opened = await one.open(hosts)
        assert isinstance(opened, Session)
        await opened.close()

    assert gone == Unbound("192.0.2.1: cannot assign requested address")


async def test_servers_of_a_family_that_the_source_lacks_are_not_dialled() -> None:
    async with Receiver() as receiver:
        opened = await dialer(receiver).open([f"0 127.0.0.1:{receiver.port}"], egress=Egress(ipv6="::1"))

    assert opened == Lost(Stage.CONNECT, "127.0.0.1 has no address of a family that the source has", "127.0.0.1")
    assert not receiver.most
