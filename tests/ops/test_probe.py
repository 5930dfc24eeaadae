"""A tracking address that does not answer makes nobody silent, and whoever looks is told of it."""

import logging
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from engine.policy import Policy
from engine.service import not_heard, sweep
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.ids import uuid7
from mtad.cli.live import top_view
from mtad.cli.shell import out
from mtad.ops.answers.audience import audience
from mtad.ops.answers.unheard import unheard
from mtad.ops.check import Finding, Level, check_all
from mtad.ops.ears import UNHEARD, Ears
from mtad.ops.probe import Probe, forget
from mtad.ops.top import Top
from mtad.queue.entries import due_entries
from mtad.wire.dns import DnsLookup, Lookup, Records, Unresolved
from mtad.wire.resolver import Resolver
from tests.clock import ManualClock
from tests.engine.world import DAY, World, definition
from tests.tracker.made import KEYS
from tests.tracker.outside import Outside
from tests.wire.authority import Authority
from tests.wire.nameserver import NameServer
from tracker.tokens import Keys
from tracker.web import make_app

NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = timedelta(minutes=1)


class Host:
    """A tracker of ours at an address; it goes away and comes back."""

    def __init__(self) -> None:
        self._outside = Outside()
        # Bound and deaf: while the server is away nobody else gets its port.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]

    async def start(
        self, keys: Keys = KEYS, *, app: web.Application | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """The tracker, or `app` in its place; always at the same port."""
        app = app or make_app(
            keys=keys, links=self._outside, record=self._outside.record, unsubscribe=self._outside.unsubscribe,
            trusted_proxies=(), ready=lambda: True, clock=ManualClock(NOW),
        )  # fmt: skip
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls).start()

    async def stop(self) -> None:
        """Also when nothing runs."""
        await self._runner.cleanup()

    async def close(self) -> None:
        await self.stop()
        self._place.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def world(pool: Pool) -> AsyncIterator[World]:
    async with pool.acquire() as conn:
        yield World(pool, conn)


async def nobody_knows(_name: str, _kind: str) -> Records:
    raise Unresolved


class Prober:
    """Probes at any time that is told."""

    def __init__(self, pool: Pool, address: str, lookup: Lookup = nobody_knows) -> None:
        self.clock = ManualClock(NOW - 30 * DAY)
        self._pool = pool
        self.resolver = Resolver(self.clock, lookup)
        self.ears = Ears(pool, self.clock)
        self.probe = Probe(pool, self.clock, KEYS, address, self.resolver)

    async def at(self, *times: datetime) -> None:
        for time in times:
            await self.clock.advance((time - self.clock.now()).total_seconds())
            await self.probe.run()
            await self.ears.run()

    async def wrong(self) -> list[str]:
        async with self._pool.acquire() as conn:
            return [one.why for one in await unheard(conn)]


async def small_stream(world: World) -> tuple[int, int, int]:
    """One person who was mailed six days ago, and once before, without a sign: stream, contact and entry.

    The window closed three days ago, and was the last that may.
    """
    stream = await world.stream(policy=Policy(attempts=2))
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    entry = await world.entry(program, contact, node="end", entered=NOW - 11 * DAY)
    await world.conn.execute("update entry set due = $1", NOW - 3 * DAY)
    for ago in (11, 6):
        await world.mailed(program, contact, at=NOW - ago * DAY, entry=entry)
    opened, until = NOW - 6 * DAY, NOW - 3 * DAY
    await world.engagement(
        stream, contact, since=NOW - 11 * DAY, round_from=NOW - 11 * DAY, first_sent=NOW - 11 * DAY,
        window_until=until, told=opened, wake_at=until, ignored=1,
    )  # fmt: skip
    return stream, contact, entry


async def state(world: World) -> tuple[str, int, datetime | None]:
    row = await world.one("select state::text, ignored, window_until from engagement")
    return row[0], row[1], row[2]


async def test_host_out_of_reach_for_a_third_of_a_window_makes_nobody_inactive(
    world: World, host: Host, database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A small stream, and no mail in that time: nothing else would notice. Windows and waits end later by as much."""
    stream, _, entry = await small_stream(world)
    prober = Prober(world.pool, host.url)
    away, back = NOW - 4 * DAY, NOW - 3 * DAY
    await world.hears(NOW)

    await prober.at(away)
    assert [one.id for one in await due_entries(world.conn)] == [entry]
    await host.stop()
    with caplog.at_level(logging.INFO, "mtad.ears"):
        await prober.at(away + MINUTE, away + 2 * MINUTE, away + DAY / 2)

        assert [record.message for record in caplog.records] == ["people cannot be heard"] * 2
        assert UNHEARD.labels(about="tracker.url")._value.get() == 1
        assert await sweep(world.pool) == 0
        assert await due_entries(world.conn) == []
        (found,) = await unheard(world.conn)
        assert (found.since, found.streams, found.holds) == (away, ("sales",), True)
        assert "does not answer as our tracker" in found.why
        (held,) = (await audience(world.conn, "sales", 1)).holds
        assert (held.kind, held.since) == ("tracker", away)
        with out.capture() as captured:
            out.print(top_view(await Top(tmp_path).look(world.conn, most=1)))
        assert "does not answer as our tracker" in " ".join(captured.get().split())
        config = Config(domain="example.com", state_dir=str(tmp_path))
        findings = await check_all(config, database=database_url, resolver=prober.resolver)
        assert [one for one in findings if one.text == found.why] == [
            Finding(Level.BAD, "tracker.url", found.why, found.mend)
        ]

        await host.start()
        await prober.at(back)
        assert caplog.records[-1].message == "people are heard again"
    assert (UNHEARD.labels(about="tracker.url")._value.get(), await prober.wrong()) == (0, [])

    later = NOW - 2 * DAY
    await world.hears(later - MINUTE)
    await sweep(world.pool)
    assert await state(world) == ("active", 1, later)
    assert await not_heard(world.conn, {entry: 3 * 86400.0}) == {entry: later}
    assert [tuple(row) for row in await world.conn.fetch("select * from unreached")] == [(stream, away, back)]

    await world.hears(NOW)
    await sweep(world.pool)
    assert (await state(world))[0] == "cooling"
    assert await world.conn.fetchval("select since from engagement") == later


async def test_pause_from_before_the_first_failure_was_found_is_taken_back(world: World, host: Host) -> None:
    _, contact, _ = await small_stream(world)
    prober = Prober(world.pool, host.url)
    away = NOW - 3 * DAY - MINUTE / 2
    await world.hears(NOW)
    await prober.at(away)
    await host.stop()
    await sweep(world.pool)
    assert (await state(world))[0] == "cooling"

    await prober.at(away + MINUTE, away + 2 * MINUTE)
    await host.start()
    await prober.at(away + DAY)
    await world.hears(NOW - 2 * DAY - MINUTE)
    await sweep(world.pool)

    assert await state(world) == ("active", 1, NOW - 2 * DAY)
    assert await world.conn.fetchval("select count(takes_back) from transition where contact_id = $1", contact) == 1


async def test_blip_changes_nothing(world: World, host: Host) -> None:
    await small_stream(world)
    prober = Prober(world.pool, host.url)
    away = NOW - 3 * DAY - MINUTE / 2
    await prober.at(away)
    await host.stop()
    await prober.at(away + MINUTE)
    await host.start()
    await prober.at(away + 2 * MINUTE)
    await world.hears(NOW)

    await sweep(world.pool)

    assert await world.conn.fetchval("select since from engagement") == NOW - 3 * DAY


async def test_one_that_never_answered_holds_until_a_recipient_came_through(world: World, host: Host) -> None:
    """Then it is this host that cannot see it: said in every place, but nobody's silence waits for it, on no stream."""
    stream, _, _ = await small_stream(world)
    await world.stream("of nobody")
    await host.stop()
    prober = Prober(world.pool, host.url)
    first = NOW - 5 * DAY
    await world.hears(NOW)
    await prober.at(first, first + MINUTE)

    assert await sweep(world.pool) == 0
    assert "no silence is believed until it does, or a recipient comes through" in (await prober.wrong())[0]

    clicked = first + MINUTE * 3 / 2
    await world.conn.execute(
        "insert into event (id, kind, at, contact_id, stream_id, class) values ($1, 'open', $2, 0, $3, 'machine')",
        uuid7(int(clicked.timestamp() * 1000), bytes(10)), clicked, stream,
    )  # fmt: skip
    await prober.at(first + 2 * MINUTE, first + 3 * MINUTE)
    await sweep(world.pool)

    assert (await state(world))[0] == "cooling"
    assert "would go unnoticed" in (await prober.wrong())[0]
    assert await world.conn.fetchval("select count(*) from reach where holds") == 0
    # Of an address that answered once no recipient proves anything.
    await world.conn.execute("update reach set answered = true where stream_id = $1", stream)
    await world.conn.execute("delete from reach where stream_id <> $1", stream)
    await prober.at(first + 4 * MINUTE)
    assert await world.conn.fetchval("select count(*) from reach where holds") == 2


async def test_without_a_probe_nothing_waits_for_it(world: World, host: Host) -> None:
    await small_stream(world)
    prober = Prober(world.pool, host.url)
    await world.hears(NOW)
    await prober.at(NOW - 4 * DAY)
    await host.stop()
    await prober.at(NOW - 4 * DAY + MINUTE, NOW - 4 * DAY + 2 * MINUTE)
    assert await sweep(world.pool) == 0

    await forget(world.pool)
    await sweep(world.pool)

    assert ((await state(world))[0], await prober.wrong()) == ("cooling", [])


async def test_host_that_died_with_hits_unread_is_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.stream()
    await world.hears(NOW)
    await world.conn.execute(
        "insert into worker (host, slot, pid, started, beat, ingested_until, dead)"
        " values ('there', 0, 1, $1, $2, $2, $3)",
        NOW - DAY, NOW - 2 * MINUTE, NOW - MINUTE,
    )  # fmt: skip
    ears = Ears(world.pool, ManualClock(NOW))

    await ears.run()

    (found,) = await unheard(world.conn)
    assert (found.about, found.name, found.since, found.holds) == ("host", "there", NOW - 2 * MINUTE, True)
    assert "there: a worker died at" in found.why
    assert [held.kind for held in (await audience(world.conn, "sales", 1)).holds] == ["tracker"]
    assert UNHEARD.labels(about="host")._value.get() == 1
    assert [record.message for record in caplog.records] == ["people cannot be heard"]
    ears.end()
    assert UNHEARD.labels(about="host")._value.get() == 0


async def test_that_no_worker_hears_is_said_while_others_live(world: World) -> None:
    await world.conn.execute("insert into worker (host, slot, pid, ingested_until) values ('there', 0, 1, 'infinity')")
    assert await unheard(world.conn) == []  # nor ever was there one
    await world.conn.execute(
        "insert into worker (host, slot, pid, ingested_until, dead) values ('here', 0, 1, $1, $2)", NOW + DAY, NOW - DAY
    )

    (found,) = await unheard(world.conn)

    assert (found.about, found.since, found.holds) == ("host", NOW - DAY, True)
    assert "no worker hears hits since" in found.why
    await world.hears(NOW)
    assert await unheard(world.conn) == []


async def test_an_address_that_comes_and_goes_is_one_span(world: World, host: Host) -> None:
    stream = await world.stream()
    prober = Prober(world.pool, host.url)
    await prober.at(NOW - DAY)
    for n in range(3):
        await host.stop()
        await prober.at(*(NOW - DAY + (10 * n + more) * MINUTE for more in (1, 2)))
        await host.start()
        await prober.at(NOW - DAY + (10 * n + 3) * MINUTE)

    spans = await world.conn.fetch("select * from unreached")
    assert [tuple(row) for row in spans] == [(stream, NOW - DAY, NOW - DAY + 23 * MINUTE)]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("", ""),
        ("believed certificate", ""),
        ("other certificate", "CERTIFICATE_VERIFY_FAILED"),
        ("page", "it answers 200, but not what our tracker would"),
        ("redirect", "it answers 302, but not what our tracker would"),
        ("other keys", "it answers 200, but not what our tracker would"),
        ("no name", "DNS has no address of it"),
        ("no dns", "DNS does not answer"),
        ("nobody", "Connect call failed"),
    ],
)
async def test_only_our_own_tracker_is_an_answer(
    world: World, host: Host, how: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, from DNS; with a certificate that recipients believe."""
    await world.stream()
    name = "t.example.com"
    await host.stop()
    if how.endswith("certificate"):
        authority = Authority(tmp_path)
        await host.start(tls=authority.server(name))
        if how == "believed certificate":
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    elif how in ("page", "redirect"):
        await host.start(app=somebody(how))
    elif how != "nobody":
        await host.start(Keys.parse("1:" + "cd" * 32) if how == "other keys" else KEYS)
    async with NameServer({(name, "A"): ["127.0.0.1"]} if how != "no name" else {}) as names:
        if how == "no dns":
            names.failing.add(name)
        scheme = "https" if how.endswith("certificate") else "http"
        prober = Prober(world.pool, f"{scheme}://{name}:{host.port}", DnsLookup([names.address]).records)

        await prober.at(NOW - DAY, NOW - DAY + MINUTE)

    assert await world.conn.fetchval("select answered from reach") == (not said)
    assert len(await prober.wrong()) == bool(said)
    assert said in "".join(await prober.wrong())


def somebody(how: str) -> web.Application:
    """Another server in the place of the tracker."""

    async def answer(_: web.Request) -> web.Response:
        if how == "redirect":
            return web.Response(status=302, headers={"Location": "https://parking.example/"})
        return web.Response(text="<html>This domain may be for sale</html>")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return app
