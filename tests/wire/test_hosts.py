"""Hosts that do not answer are remembered, and some are never dialled."""

import random
from datetime import UTC, datetime

import pytest

from mtad.smtp.results import Lost, Refused, Stage
from mtad.wire import hosts
from mtad.wire.dns import Records
from mtad.wire.hosts import DEAD_FIRST, DEAD_LONGEST, LOOK, MAX_ADDRESSES, Hosts, Target, is_ours, is_public
from mtad.wire.resolver import Resolver
from tests.clock import ManualClock

SITE = ["10 a.test:25", "20 b.test:25", "30 c.test:25"]


class Net:
    """Hosts and their addresses; `down` do not answer, `busy` refuse. Remembers what was dialled."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = {f"{name}.test": found for name, found in addresses.items()}
        self.down: set[str] = set()
        self.busy: set[str] = set()
        self.dialled: list[str] = []
        self.clock = ManualClock(datetime(2026, 1, 2, tzinfo=UTC))
        self.hosts = Hosts(Resolver(self.clock, self.lookup), self.clock, choice=random.Random(1))

    async def lookup(self, name: str, kind: str) -> Records:
        family = {"A": ".", "AAAA": ":"}[kind]
        return Records([text for text in self.addresses.get(name, []) if family in text], 3600)

    async def dial(self, target: Target) -> str | Refused | Lost:
        self.dialled.append(target.address)
        if target.address in self.down:
            return Lost(Stage.CONNECT, "no connection", target.host)
        if target.address in self.busy:
            return Refused(Stage.BANNER, 421, "", "421 busy", target.host)
        return target.address

    async def go(self, site: list[str] = SITE) -> list[str]:
        """What one attempt dials."""
        self.dialled.clear()
        await self.hosts.first(site, self.dial)
        return list(self.dialled)


@pytest.fixture
def net() -> Net:
    return Net(a=["9.0.0.1"], b=["9.0.0.2"], c=["9.0.0.3"])


async def test_a_dead_host_is_tried_last_until_its_time_is_over(net: Net) -> None:
    net.down = {"9.0.0.1"}
    assert await net.go() == ["9.0.0.1", "9.0.0.2"]
    assert await net.go() == ["9.0.0.2"]

    await net.clock.advance(DEAD_FIRST)
    net.down = set()
    assert await net.go() == ["9.0.0.1"]
    assert await net.go() == ["9.0.0.1"]


async def test_a_host_that_stays_dead_is_looked_at_ever_more_rarely(net: Net) -> None:
    net.down = {"9.0.0.1"}
    span = DEAD_FIRST
    await net.go()
    for _ in range(8):
        await net.clock.advance(span - 1)
        assert await net.go() == ["9.0.0.2"]
        await net.clock.advance(1)
        assert await net.go() == ["9.0.0.1", "9.0.0.2"]
        span = min(span * 2, DEAD_LONGEST)


async def test_dead_hosts_are_dialled_all_the_same_where_all_are(net: Net) -> None:
    net.down = {"9.0.0.1", "9.0.0.2", "9.0.0.3"}
    await net.go()

    assert await net.go() == ["9.0.0.1", "9.0.0.2", "9.0.0.3"]


async def test_one_session_looks_whether_a_host_is_back_and_the_others_go_elsewhere(net: Net) -> None:
    net.down = {"9.0.0.1"}
    await net.go()
    await net.clock.advance(DEAD_FIRST)
    others = []

    async def slowly(target: Target) -> str | Refused | Lost:
        others.append(await net.go())
        return await net.dial(target)

    await net.hosts.first(SITE, slowly)

    assert others[0] == ["9.0.0.2"]
    assert LOOK > 30  # as long as a connection may take


async def test_a_host_that_refuses_is_not_dead(net: Net) -> None:
    net.busy = {"9.0.0.1"}

    assert await net.go() == ["9.0.0.1", "9.0.0.2"]
    assert await net.go() == ["9.0.0.1", "9.0.0.2"]


async def test_memory_of_the_dead_is_bounded(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "MAX_DEAD", 2)
    net.down = {"9.0.0.1", "9.0.0.2", "9.0.0.3"}
    await net.go()
    net.down = set()

    assert await net.go() == ["9.0.0.1"]  # the first to die is forgotten
    assert len(net.hosts._dead) == 2


async def test_the_addresses_of_a_host_share_the_load_and_the_preferred_family_comes_first() -> None:
    net = Net(a=["2001:4860::1", "9.0.0.1", "9.0.0.2", "9.0.0.3"])
    first = [(await net.go(["10 a.test:25"]))[0] for _ in range(60)]
    net.down = {"9.0.0.1", "9.0.0.2", "9.0.0.3"}

    assert {first.count(f"9.0.0.{n}") >= 10 for n in (1, 2, 3)} == {True}
    assert (await net.go(["10 a.test:25"]))[-1] == "2001:4860::1"


async def test_an_attempt_dials_few_addresses_dead_ones_included() -> None:
    net = Net(a=[f"9.0.0.{n}" for n in range(1, 5)], b=[f"9.0.1.{n}" for n in range(1, 5)])
    net.down = {address for found in net.addresses.values() for address in found}

    assert len(await net.go()) == MAX_ADDRESSES
    assert len(await net.go()) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("9.9.9.9", True),
        ("2620:fe::fe", True),
        ("64:ff9b::909:909", True),  # 9.9.9.9 behind NAT64
        ("2002:909:909::1", True),  # and behind 6to4
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.1.1", False),
        ("100.64.0.1", False),
        ("192.0.2.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("::", False),
        ("::1", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),  # 10.0.0.1
        ("2002:7f00:1::1", False),  # 127.0.0.1
    ],
)
def test_only_addresses_of_the_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_the_kernel_knows_which_addresses_are_ours() -> None:
    assert is_ours("127.0.0.1")
    assert not is_ours("192.0.2.1")
    assert not is_ours("2001:db8::1")


async def test_hosts_from_this_machine_on_are_not_dialled_unless_routed(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MX of a, then of this machine by another name, then one behind it that would send to us."""
    monkeypatch.setattr(hosts, "is_ours", lambda address: address == "9.0.0.2")
    net.down = {"9.0.0.1"}

    assert await net.go() == ["9.0.0.1"]
    assert await net.hosts.first(["10 b.test:25"], net.dial) == Lost(
        Stage.CONNECT, "b.test is this machine: its mail would come back to us", "b.test"
    )
    routed = Hosts(Resolver(net.clock, net.lookup), net.clock, routed=["b.test:25"])
    assert await routed.first(["10 b.test:25"], net.dial) == "9.0.0.2"


async def test_an_ipv6_address_can_be_routed_to() -> None:
    net = Net()
    routed = Hosts(Resolver(net.clock, net.lookup), net.clock, routed=["[::1]:26"])

    assert await routed.first(["0 [::1]:26"], net.dial) == "::1"
