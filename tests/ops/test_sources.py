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

    of_sources = [(one.level, one.text) for one in found if one.about.startswith("source")]
    assert of_sources == [
        (Level.OK, "here: 127.0.0.2 can be bound"),
        (Level.BAD, "gone: 192.0.2.1: cannot assign requested address"),
    ]
