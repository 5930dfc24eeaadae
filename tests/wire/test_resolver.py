"""Where mail goes is what DNS says; that DNS says nothing now never means that there is no mail."""

from datetime import UTC, datetime
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.resolver
import msgspec
import pytest

from mtad.base.clock import ManualClock
from mtad.base.config import Config, Route
from mtad.wire.resolver import (
    LEAST_TTL,
    MAX_NAME,
    MOST_TTL,
    NEGATIVE_TTL,
    DnsLookup,
    NoMail,
    Records,
    Resolver,
    Site,
    Unresolved,
    routed_host,
)

CONFIG = Config(domain="us.test")


class Zone:
    """DNS as a table: (name, type) → records; a name without any does not exist."""

    def __init__(self, ttl: float = 600) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.silent: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        self.ttl = ttl
        self.clock = ManualClock(datetime(2026, 1, 2, tzinfo=UTC))
        self.resolver = Resolver(self.clock, self.lookup)

    async def lookup(self, name: str, kind: str) -> Records:
        self.asked.append((name, kind))
        if (name, kind) in self.silent:
            raise Unresolved(f"DNS {kind} {name}: SERVFAIL")
        exists = any(known == name for known, _ in self.records)
        return Records(self.records.get((name, kind), []), self.ttl, exists=exists)

    async def site_of(self, domain: str, config: Config = CONFIG) -> Site | NoMail:
        return await self.resolver.site_of(domain, config)


@pytest.fixture
def zone() -> Zone:
    return Zone()


async def test_hosts_are_ordered_by_preference(zone: Zone) -> None:
    zone.records["x.test", "MX"] = ["20 b.mx.test.", "5 C.MX.test.", "10 a.mx.test."]

    assert await zone.site_of("x.test") == Site(
        "a.mx.test,b.mx.test,c.mx.test", ["5 c.mx.test:25", "10 a.mx.test:25", "20 b.mx.test:25"]
    )


async def test_domains_with_the_same_hosts_are_one_site(zone: Zone) -> None:
    zone.records["x.test", "MX"] = ["10 a.mx.test.", "20 b.mx.test."]
    zone.records["y.test", "MX"] = ["1 B.mx.test.", "1 A.mx.test.", "9 a.mx.test."]

    one, two = await zone.site_of("x.test"), await zone.site_of("y.test")

    assert isinstance(one, Site)
    assert isinstance(two, Site)
    assert one.name == two.name


async def test_a_site_of_many_hosts_has_a_short_stable_name(zone: Zone) -> None:
    zone.records["x.test", "MX"] = [f"10 host{n}.a-rather-long-name.mx.test." for n in range(20)]
    zone.records["y.test", "MX"] = list(reversed(zone.records["x.test", "MX"]))
    zone.records["z.test", "MX"] = zone.records["x.test", "MX"][:-1]

    names = [site.name for site in [await zone.site_of(f"{d}.test") for d in "xyz"] if isinstance(site, Site)]

    assert names[0] == names[1] != names[2]
    assert len(names[0]) <= MAX_NAME
    assert names[0].startswith("host0.a-rather-long-name.mx.test,+19:")


@pytest.mark.parametrize("kind", ["A", "AAAA"])
async def test_a_domain_without_mx_is_its_own_host(zone: Zone, kind: str) -> None:
    zone.records["x.test", kind] = ["192.0.2.1" if kind == "A" else "2001:db8::1"]

    assert await zone.site_of("x.test") == Site("x.test", ["0 x.test:25"])


async def test_null_mx_means_no_mail_for_good(zone: Zone) -> None:
    zone.records["x.test", "MX"] = ["0 ."]
    zone.records["x.test", "A"] = ["192.0.2.1"]

    answer = await zone.site_of("x.test")

    assert isinstance(answer, NoMail)
    assert answer.permanent
    assert "null MX" in answer.why


async def test_a_domain_that_does_not_exist_gets_no_mail_for_good(zone: Zone) -> None:
    assert await zone.site_of("x.test") == NoMail("the domain x.test does not exist", permanent=True)


async def test_a_domain_without_any_host_gets_no_mail_for_now(zone: Zone) -> None:
    zone.records["x.test", "TXT"] = ["v=spf1 -all"]

    assert await zone.site_of("x.test") == NoMail("the domain x.test has neither MX nor address", permanent=False)


@pytest.mark.parametrize("silent", [{("x.test", "MX")}, {("x.test", "A")}, {("x.test", "AAAA")}])
async def test_dns_failure_is_never_no_mail(zone: Zone, silent: set[tuple[str, str]]) -> None:
    zone.records["x.test", "TXT"] = ["exists"]
    zone.silent = silent

    with pytest.raises(Unresolved, match="SERVFAIL"):
        await zone.site_of("x.test")


async def test_half_an_answer_about_addresses_is_enough(zone: Zone) -> None:
    zone.records["mx.test", "A"] = ["192.0.2.1"]
    zone.silent = {("mx.test", "AAAA")}

    assert await zone.resolver.addresses("mx.test") == ["192.0.2.1"]


async def test_ipv4_comes_before_ipv6(zone: Zone) -> None:
    zone.records["mx.test", "AAAA"] = ["2001:db8::1"]
    zone.records["mx.test", "A"] = ["192.0.2.1", "192.0.2.2"]

    assert await zone.resolver.addresses("mx.test") == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]


async def test_an_address_is_its_own_address(zone: Zone) -> None:
    assert await zone.resolver.addresses("192.0.2.1") == ["192.0.2.1"]
    assert await zone.resolver.addresses("2001:DB8::1") == ["2001:db8::1"]
    assert zone.asked == []


async def test_a_route_goes_before_dns(zone: Zone) -> None:
    config = msgspec.structs.replace(
        CONFIG, route=(Route(domain="x.test", host="127.0.0.1", port=2525), Route(domain="*", host="::1", port=26))
    )

    assert await zone.site_of("x.test", config) == Site("127.0.0.1:2525", ["0 127.0.0.1:2525"])
    assert await zone.site_of("y.test", config) == Site("[::1]:26", ["0 [::1]:26"])
    assert [routed_host(route) for route in config.route] == ["127.0.0.1:2525", "[::1]:26"]
    assert zone.asked == []


@pytest.mark.parametrize(
    ("ttl", "kept"), [(0.0, LEAST_TTL), (600.0, 600.0), (10 * MOST_TTL, MOST_TTL)], ids=["short", "usual", "long"]
)
async def test_answers_are_kept_as_long_as_they_say_within_bounds(ttl: float, kept: float) -> None:
    zone = Zone(ttl)
    zone.records["x.test", "MX"] = ["10 a.mx.test."]
    await zone.site_of("x.test")
    zone.records["x.test", "MX"] = ["10 b.mx.test."]

    await zone.clock.advance(kept - 0.1)
    before = await zone.site_of("x.test")
    await zone.clock.advance(0.1)
    after = await zone.site_of("x.test")

    assert before == Site("a.mx.test", ["10 a.mx.test:25"])
    assert after == Site("b.mx.test", ["10 b.mx.test:25"])
    assert len(zone.asked) == 2


async def test_what_does_not_exist_is_remembered_for_a_while(zone: Zone) -> None:
    await zone.site_of("x.test")
    await zone.clock.advance(NEGATIVE_TTL - 1)
    await zone.site_of("x.test")
    assert len(zone.asked) == 1

    await zone.clock.advance(1)
    await zone.site_of("x.test")
    assert len(zone.asked) == 2


async def test_failures_are_not_remembered(zone: Zone) -> None:
    zone.silent = {("x.test", "MX")}
    with pytest.raises(Unresolved):
        await zone.site_of("x.test")
    zone.silent = set()
    zone.records["x.test", "MX"] = ["10 a.mx.test."]

    assert isinstance(await zone.site_of("x.test"), Site)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (dns.resolver.NXDOMAIN, Records((), 0.0, exists=False)),
        (dns.resolver.NoNameservers, None),
        (dns.exception.Timeout, None),
        (OSError, None),
    ],
)
async def test_what_dnspython_raises_is_nxdomain_or_unresolved(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], expected: Records | None
) -> None:
    async def resolve(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(dns.asyncresolver.Resolver, "resolve", resolve)
    monkeypatch.setattr(dns.asyncresolver.Resolver, "read_resolv_conf", lambda *_: None)

    if expected is None:
        with pytest.raises(Unresolved):
            await DnsLookup().records("x.test", "MX")
    else:
        assert await DnsLookup().records("x.test", "MX") == expected


async def test_a_name_that_dns_cannot_hold_is_unresolved() -> None:
    with pytest.raises(Unresolved):
        await DnsLookup().records("a" * 64 + ".test", "A")
