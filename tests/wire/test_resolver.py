"""Where mail goes is what DNS says; that DNS says nothing now never means that there is no mail."""

from datetime import UTC, datetime

import msgspec
import pytest

from mtad.base.config import Config, Mta, Route
from mtad.base.source import Source
from mtad.wire.dns import Records, Unresolved
from mtad.wire.resolver import MAX_HOSTS, MAX_NAME, NoMail, Resolver, Site
from tests.clock import ManualClock

CONFIG = Config(domain="us.test")


class Zone:
    """DNS as a table: (name, type) → records; a name without any does not exist."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.silent: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        self.clock = ManualClock(datetime(2026, 1, 2, tzinfo=UTC))
        self.resolver = Resolver(self.clock, self.lookup)

    async def lookup(self, name: str, kind: str) -> Records:
        self.asked.append((name, kind))
        if (name, kind) in self.silent:
            raise Unresolved(f"DNS {kind} {name}: SERVFAIL")
        exists = any(known == name for known, _ in self.records)
        return Records(self.records.get((name, kind), []), 600, exists=exists)

    async def site_of(self, domain: str, config: Config = CONFIG) -> Site | NoMail:
        return await self.resolver.site_of(domain, config)


@pytest.fixture
def zone() -> Zone:
    return Zone()


async def test_hosts_are_ordered_by_preference(zone: Zone) -> None:
    zone.records["x.test", "MX"] = ["20 b.mx.test.", "5 C.MX.test.", "10 a.mx.test."]

    assert await zone.site_of("x.test") == Site(
        "a.mx.test,b.mx.test,c.mx.test", ["5 c.mx.test:25", "10 a.mx.test:25", "20 b.mx.test:25"], ttl=600
    )


async def test_the_names_of_sources_are_ours_too(zone: Zone) -> None:
    zone.records["x.test", "MX"] = ["10 one.us.test.", "20 b.test."]
    config = msgspec.structs.replace(CONFIG, source=(Source(name="one", hostname="One.us.test"),))

    looped = await zone.site_of("x.test", config)

    assert looped == NoMail("mail for the domain x.test would come back to us: one.us.test is its best MX")


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

    assert await zone.site_of("x.test") == Site("x.test", ["0 x.test:25"], ttl=300)


@pytest.mark.parametrize("null", ["0 .", "10 ."])
async def test_null_mx_means_no_mail_for_good(zone: Zone, null: str) -> None:
    zone.records["x.test", "MX"] = [null]
    zone.records["x.test", "A"] = ["192.0.2.1"]

    answer = await zone.site_of("x.test")

    assert isinstance(answer, NoMail)
    assert (answer.refuses, answer.absent) == (True, False)
    assert "null MX" in answer.why


async def test_that_a_domain_does_not_exist_is_told_apart_from_what_it_says_itself(zone: Zone) -> None:
    assert await zone.site_of("x.test") == NoMail("the domain x.test does not exist", absent=True)


async def test_a_domain_without_any_host_gets_no_mail_for_now(zone: Zone) -> None:
    zone.records["x.test", "TXT"] = ["v=spf1 -all"]

    assert await zone.site_of("x.test") == NoMail("the domain x.test has neither MX nor address")


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
    assert [route.site for route in config.route] == ["127.0.0.1:2525", "[::1]:26"]
    assert zone.asked == []


async def test_a_null_mx_beside_others_means_nothing(zone: Zone) -> None:
    zone.records["x.test", "MX"] = ["0 .", "10 mx.test."]

    assert await zone.site_of("x.test") == Site("mx.test", ["10 mx.test:25"], ttl=600)


async def test_a_host_whose_name_cannot_be_one_is_left_out(zone: Zone) -> None:
    """Octets that DNS may hold and TLS may not be asked for."""
    bad = [r"1 \195\188.test.", r"2 a\032b.test.", r"3 a\.b.test.", "4 a:25.test."]
    zone.records["x.test", "MX"] = [*bad, "5 mx_1.test."]
    zone.records["y.test", "MX"] = bad

    assert await zone.site_of("x.test") == Site("mx_1.test", ["5 mx_1.test:25"], ttl=600)
    assert await zone.site_of("y.test") == NoMail("no MX of the domain y.test is the name of a host")


async def test_only_the_best_of_very_many_hosts_count(zone: Zone) -> None:
    zone.records["x.test", "MX"] = [f"{n} mx{n}.test." for n in range(1000)]

    site = await zone.site_of("x.test")

    assert isinstance(site, Site)
    assert site.hosts == [f"{n} mx{n}.test:25" for n in range(MAX_HOSTS)]


@pytest.mark.parametrize(
    ("ours", "left"),
    [
        ("30", ["10 a.test:25", "20 b.test:25", "20 c.test:25"]),
        ("20", ["10 a.test:25"]),
        ("15", ["10 a.test:25"]),
    ],
)
async def test_hosts_no_better_than_we_are_would_send_it_back_to_us(zone: Zone, ours: str, left: list[str]) -> None:
    zone.records["x.test", "MX"] = ["10 a.test.", "20 b.test.", "20 c.test.", f"{ours} Mail.us.test."]

    site = await zone.site_of("x.test")

    assert isinstance(site, Site)
    assert site.hosts == left


async def test_where_we_are_the_best_host_mail_waits_and_nobody_is_dialled(zone: Zone) -> None:
    zone.records["x.test", "MX"] = ["10 gate.us.test.", "20 b.test."]
    zone.records["mail.us.test", "A"] = ["192.0.2.1"]
    config = msgspec.structs.replace(CONFIG, mta=Mta(hostname="gate.us.test"))

    looped = await zone.site_of("x.test", config)
    ourselves = await zone.site_of("mail.us.test")

    assert looped == NoMail("mail for the domain x.test would come back to us: gate.us.test is its best MX")
    assert isinstance(ourselves, NoMail)
    assert not ourselves.refuses


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ("ipv4", ["192.0.2.1", "2001:db8::1"]),
        ("ipv6", ["2001:db8::1", "192.0.2.1"]),
        ("ipv4_only", ["192.0.2.1"]),
        ("ipv6_only", ["2001:db8::1"]),
    ],
)
async def test_the_preferred_kind_of_address_comes_first(zone: Zone, prefer: str, expected: list[str]) -> None:
    zone.records["mx.test", "A"] = ["192.0.2.1"]
    zone.records["mx.test", "AAAA"] = ["2001:db8::1"]
    resolver = Resolver(zone.clock, zone.lookup, prefer=prefer)

    assert await resolver.addresses("mx.test") == expected
    assert len(zone.asked) == len(expected)
