"""What `mtad check` says of the addresses that mail leaves by."""

from pathlib import Path

from mtad.base.clock import SystemClock
from mtad.base.config import Config
from mtad.base.source import Source
from mtad.ops.check import Level, check_all
from mtad.wire.dns import Records, Unresolved
from mtad.wire.resolver import Resolver


async def no_dns(name: str, kind: str) -> Records:
    raise Unresolved(f"nobody answers for {kind} {name}")


async def test_an_address_that_this_machine_does_not_have_is_found(tmp_path: Path) -> None:
    here, gone = Source(name="here", address=("127.0.0.2",)), Source(name="gone", address=("192.0.2.1",))
    config = Config(domain="example.com", folder=tmp_path, source=(here, gone))

    found = await check_all(config, database=None, resolver=Resolver(SystemClock(), no_dns))

    of_sources = [(one.level, one.text) for one in found if one.about.endswith("].address")]
    assert of_sources == [
        (Level.OK, "here: 127.0.0.2 can be bound"),
        (Level.BAD, "gone: 192.0.2.1: cannot assign requested address"),
    ]


async def test_each_name_in_ehlo_leads_to_the_address_of_its_source_and_back(tmp_path: Path) -> None:
    records = {
        ("one.us.test", "A"): ["198.51.100.9"],
        ("9.100.51.198.in-addr.arpa", "PTR"): ["one.us.test."],
        ("bounce.us.test", "TXT"): ["v=spf1 a:one.us.test -all"],
    }

    async def dns(name: str, kind: str) -> Records:
        return Records(records.get((name, kind), []), 600, exists=True)

    public = Source(name="one", address=("8.8.8.8",), hostname="one.us.test")
    hidden = Source(name="two", address=("10.0.0.2",), hostname="one.us.test")
    config = Config(domain="us.test", folder=tmp_path, source=(public, hidden))

    found = await check_all(config, database=None, resolver=Resolver(SystemClock(), dns))

    assert [(one.about, one.level, one.text) for one in found if one.about.endswith("].hostname")] == [
        ("source[0].hostname", Level.BAD, "one.us.test: has not the address 8.8.8.8"),
        ("source[0].hostname", Level.OK, "one.us.test: 198.51.100.9 and back"),
        ("source[1].hostname", Level.OK, "one.us.test: 198.51.100.9 and back"),
    ]
    assert [(one.level, one.text, one.mend) for one in found if one.about == "spf"] == [
        (Level.BAD, "bounce.us.test: its SPF record lacks 8.8.8.8", "add ip4:8.8.8.8 to it")
    ]
