"""Postfix's smtp-sink as the receiver: it hangs up, refuses, turns away and dawdles, and no mail is lost or doubled."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from benchmarks.sinks import smtp_sink_program
from mtad.base.clock import SystemClock
from mtad.base.db import Pool
from mtad.base.errors import Unavailable
from mtad.lab.installation import free_port
from mtad.queue import store
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer
from tests.faults.smtp_sink import copies, smtp_sink
from tests.pipeline.office import FrailPool, Office, open_office
from tests.queue.world import new_world
from tests.wire.conftest import no_dns

MAILS = 100
# What the sink of each site does at first. Of every 20 mails one goes to each but the polite.
SITES: dict[str, tuple[str, ...]] = {
    "hangs-up": ("-q", "."),
    "defers": ("-r", "."),
    "refuses": ("-f", "RCPT"),
    "turns-away": ("-Q", "."),
    "dawdles": ("-W", ".:1"),
    "polite": (),
}


def site_of(number: int) -> str:
    return list(SITES)[min(number % 20, len(SITES) - 1)]


def is_installed() -> bool:
    try:
        smtp_sink_program()
    except Unavailable:
        return False
    return True


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where smtp-sink may write, as whoever."""
    with tempfile.TemporaryDirectory(prefix="mtad-test-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.skipif(not is_installed(), reason="needs smtp-sink of the Debian package postfix")
async def test_nothing_is_lost_and_nothing_comes_twice_that_is_not_in_doubt(pool: Pool, folder: Path) -> None:
    ports = {name: free_port() for name in SITES}
    clock = SystemClock()
    routed = [f"127.0.0.1:{port}" for port in ports.values()]
    dialer = Dialer("me.test", Resolver(clock, no_dns), clock, routed=routed)
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        hosts = {name: [f"0 127.0.0.1:{port}"] for name, port in ports.items()}
        sites = await store.sites_by_name(conn, hosts)
        people = {f"p{number}@reader.test": site_of(number) for number in range(MAILS)}
        for address, name in people.items():
            await world.job(address, site_id=sites[name])
        office = Office(world, FrailPool(pool), await world.worker(), dialer=dialer)

        async with AsyncExitStack() as first, AsyncExitStack() as second:
            for name, options in SITES.items():
                await first.enter_async_context(smtp_sink(ports[name], folder / f"{name}.1", *options))
            async with open_office(office):
                await office.until_count("select count(*) from job where attempt = 0 or worker is not null", 0)
                rows = await conn.fetch(
                    "select address, doubts, job.reason from job join contact on contact.id = contact_id"
                )
                await first.aclose()
                for name in SITES:
                    await second.enter_async_context(smtp_sink(ports[name], folder / f"{name}.2"))
                await conn.execute("update job set due = now()")
                await office.until_count("select count(*) from job", 0)
        ledger = await conn.fetch("select address, outcome::text from ledger join contact on contact.id = contact_id")

    ended = {row["address"]: row["outcome"] for row in ledger}
    at = {name: {address for address, site in people.items() if site == name} for name in SITES}
    came = {(name, turn): copies(folder / f"{name}.{turn}") for name in SITES for turn in (1, 2)}
    assert {row["address"] for row in rows if row["doubts"]} == at["hangs-up"]
    assert {row["address"] for row in rows if row["reason"].startswith("450 4.3.0")} == at["defers"]
    assert {row["address"] for row in rows if row["reason"].startswith("421 4.0.0")} == at["turns-away"]
    assert ended == {address: "bounced" if name == "refuses" else "delivered" for address, name in people.items()}
    for name in ("polite", "dawdles"):
        assert came[name, 1] + came[name, 2] == Counter(at[name])
    for name in ("hangs-up", "defers", "turns-away"):
        assert came[name, 2] == Counter(at[name])
    assert came["hangs-up", 1] == Counter(at["hangs-up"])  # the copies that were in doubt
    assert not came["refuses", 1] + came["refuses", 2]
