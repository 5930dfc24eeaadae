"""Page views: of people who agreed, handed over once, on the operator's own sites."""

import base64
import struct
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web

from mtad.base.clock import SystemClock
from mtad.base.db import Connection, Pool
from tests.consent.chromium import running_browser
from tests.tracker.made import BROWSER, KEYS, World
from tests.tracker.outside import Outside, served
from tests.tracker.test_tracker import clicked, serving, until
from tracker.handover import AHEAD, GOOD_FOR, KNOWN_FOR, Came, Handover
from tracker.occurrences import Occurrence
from tracker.pageviews import BURST, SCRIPT
from tracker.service import ripen
from tracker.web import make_app

SITE = "127.0.0.1"
HANDOVER = Handover(KEYS, ["shop.test", SITE])
NOW = 1_800_000_000.0


def test_the_script_is_at_most_2_kb() -> None:
    assert len(SCRIPT) <= 2048
    assert f"max-age={KNOWN_FOR};".encode() in SCRIPT


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.test", "https://shop.test?mtad="),
        ("https://SHOP.test/a?x=1#top", "https://SHOP.test/a?x=1&mtad="),
        ("https://shop.test:444/a#top", "https://shop.test:444/a?mtad="),
    ],
)
def test_a_click_on_a_listed_site_hands_over_who_comes(url: str, expected: str) -> None:
    found = HANDOVER.address(url, 17, NOW)

    assert found.startswith(expected)
    assert found.endswith("#top") == url.endswith("#top")
    assert HANDOVER.read(found.partition("mtad=")[2].partition("#")[0], NOW) == Came(17, int(NOW))


@pytest.mark.parametrize(
    "url",
    [
        "https://other.test/", "http://shop.test/", "https://shop.test.evil.test/", "https://shop.test@evil.test/",
        "https://evil.test/#https://shop.test", "https://shop.test\\@evil.test", "https://shop.test/?mtad=x",
        "mailto:a@shop.test",
    ],
)  # fmt: skip
def test_any_other_address_stays_byte_for_byte(url: str) -> None:
    assert HANDOVER.address(url, 17, NOW) == url


def test_mail_that_names_nobody_hands_nobody_over() -> None:
    assert HANDOVER.address("https://shop.test/", 0, NOW) == "https://shop.test/"


def test_what_is_handed_over_is_good_for_an_hour_and_a_visitor_is_known_for_half_a_year() -> None:
    token = HANDOVER.address("https://shop.test/", 17, NOW).partition("mtad=")[2]
    came = Came(17, int(NOW))
    visitor = HANDOVER.visitor(came)

    for after, handed_over, known in [
        (-AHEAD - 1, None, None),  # nobody's clock is ahead by so much
        (-AHEAD, came, came),
        (GOOD_FOR, came, came),
        (GOOD_FOR + 1, None, came),
        (KNOWN_FOR, None, came),
        (KNOWN_FOR + 1, None, None),
    ]:
        assert HANDOVER.read(token, NOW + after) == handed_over
        assert HANDOVER.read_visitor(visitor, NOW + after) == known
    assert HANDOVER.read_visitor(token, NOW) is None
    assert HANDOVER.read(visitor, NOW) is None


@pytest.mark.parametrize("bit", range(0, 27 * 8, 5))
def test_no_bit_of_what_is_handed_over_may_differ(bit: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(HANDOVER.visitor(Came(17, int(NOW)))))
    raw[bit // 8] ^= 1 << bit % 8

    assert HANDOVER.read_visitor(base64.urlsafe_b64encode(raw).decode(), NOW) is None


def test_a_log_of_addresses_and_cookies_does_not_name_the_mail() -> None:
    job = 0x0123456789ABCDEF
    token = HANDOVER.address("https://shop.test/", job, NOW).partition("mtad=")[2]

    for text in (token, HANDOVER.visitor(Came(job, int(NOW)))):
        raw = base64.urlsafe_b64decode(text)
        assert struct.pack(">Q", job)[4:] not in raw
        assert struct.pack(">I", int(NOW))[:3] not in raw


class Place:
    """A tracker with one mail, a browser for it, and what was offered to the engine."""

    def __init__(self, http: aiohttp.ClientSession, world: World) -> None:
        self.http = http
        self.world = world
        self.offered: list[Occurrence] = []

    async def handed_over(self) -> str:
        async with self.http.get(clicked(1, self.world.links[0]), allow_redirects=False) as answer:
            return answer.headers["Location"].partition("mtad=")[2]

    async def view(
        self, *, origin: str = f"http://{SITE}", agent: str = BROWSER, **said: object
    ) -> tuple[int, dict[str, Any]]:
        body = {"url": f"http://{SITE}/prices?secret=1#x", "consent": True, **said}
        headers = {"Origin": origin, "User-Agent": agent}
        async with self.http.post("/v", json=body, headers=headers) as answer:
            return answer.status, await answer.json() if answer.status == 200 else {}

    async def offer(self, _conn: Connection, occurrences: Sequence[Occurrence]) -> None:
        self.offered.extend(occurrences)

    async def judged(self, count: int) -> list[tuple[str, str]]:
        """Address and class of the page views that were kept, as soon as there are so many."""

        async def there() -> bool:
            await ripen(self.world.pool, offer=self.offer)
            return bool(await self.world.pool.fetchval("select count(*) >= $1 from event where kind = 'page'", count))

        await until(there)
        rows = await self.world.pool.fetch(
            "select data->>'url', data->>'class' from event where kind = 'page' order by id"
        )
        return [(row[0], row[1]) for row in rows]

    async def seen(self, count: int) -> list[str]:
        return [url for url, _ in await self.judged(count)]


@pytest.fixture
async def place(pool: Pool, tmp_path: Path) -> AsyncIterator[Place]:
    world = await World(pool).seed(settle=0.0, urls=(f"http://{SITE}/prices?x=1", "https://other.test/"))
    await world.ended(1)
    async with serving(pool, tmp_path, sites=[SITE], worker=await world.worker()) as (http, _):
        await until(lambda: _loaded(http))
        yield Place(http, world)


async def _loaded(http: aiohttp.ClientSession) -> bool:
    async with http.get("/healthz") as answer:
        return answer.status == 200


async def test_a_handed_over_visitor_is_known_from_then_on_and_the_token_works_once(place: Place) -> None:
    token = await place.handed_over()

    status, answer = await place.view(token=token)
    assert status == 200
    assert await place.view(token=token) == (204, {})  # a friend with the same link
    assert await place.view(visitor=answer["visitor"], url=f"http://{SITE}/cart") == (204, {})

    assert await place.seen(2) == [f"http://{SITE}/prices", f"http://{SITE}/cart"]
    assert [(one.event, one.contact_id, one.properties) for one in place.offered] == [
        ("page", place.world.contact, {"url": f"http://{SITE}/{path}"}) for path in ("prices", "cart")
    ]


@pytest.mark.parametrize(
    ("origin", "said", "status"),
    [
        (f"http://{SITE}", {"consent": False}, 204),
        (f"http://{SITE}", {"url": "https://evil.test/"}, 204),
        ("https://evil.test", {}, 403),
        ("null", {}, 403),
    ],
    ids=["no consent", "another address", "another site", "no site"],
)
async def test_without_consent_or_from_elsewhere_nothing_is_used_up(
    place: Place, origin: str, said: dict[str, Any], status: int
) -> None:
    token = await place.handed_over()

    assert await place.view(origin=origin, token=token, **said) == (status, {})
    assert (await place.view(token=token))[0] == 200


@pytest.mark.parametrize(
    ("origin", "body", "status"),
    [
        ("https://shop.test", b'{"url": "\xff"}', 400),
        ("https://shop.test", b'{"x":' + b"[" * 4000, 400),
        ("https://shop.test", b'{"url": "https://shop.test:ann@reader.test/", "consent": true}', 204),
        ("https://shop.test", b'{"url": "https://shop.test:99999/", "consent": true}', 204),
        ("https://shop.test/\u00ff", b"{}", 403),
        ("https://shop.test/a", b"{}", 403),
        ("https://shop.test:99999", b"{}", 403),
    ],
    ids=["no UTF-8", "nested", "no port", "no such port", "not ASCII", "with a path", "of no port"],
)
async def test_whatever_strangers_send_is_no_error_of_ours_and_in_no_log(
    quiet: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, origin: str, body: bytes, status: int
) -> None:
    async with quiet.post("/v", data=body, headers={"Origin": origin}) as answer:
        assert answer.status == status

    assert not caplog.text


@pytest.fixture
async def quiet() -> AsyncIterator[aiohttp.ClientSession]:
    """A tracker with one site and nothing behind it; whoever is handed over is taken."""
    outside = Outside()

    async def redeem(_token: str, _job: int, _event: UUID) -> bool:
        return True

    app = make_app(
        keys=KEYS,
        links=outside,
        record=outside.record,
        unsubscribe=outside.unsubscribe,
        trusted_proxies=[],
        ready=lambda: True,
        clock=SystemClock(),
        sites=["shop.test"],
        redeem=redeem,
    )
    async with served(app) as base, aiohttp.ClientSession(base) as session:
        yield session


async def test_nobody_sees_more_pages_than_a_person_can_and_others_may_go_on(quiet: aiohttp.ClientSession) -> None:
    async def view(visitor: int) -> int:
        said = {
            "url": "https://shop.test/",
            "consent": True,
            "visitor": HANDOVER.visitor(Came(visitor, int(time.time()))),
        }
        async with quiet.post("/v", json=said, headers={"Origin": "https://shop.test"}) as answer:
            return answer.status

    assert {await view(1) for _ in range(BURST)} == {204}
    assert await view(1) == 429
    assert await view(2) == 204


@pytest.mark.parametrize("mode", ["hygiene", "none"])
async def test_who_may_not_be_measured_stays_unknown(place: Place, mode: str) -> None:
    known = (await place.view(token=await place.handed_over()))[1]["visitor"]
    await place.seen(1)
    await place.world.pool.execute("update subscription set tracking = $1::text::tracking_mode", mode)

    assert await place.view(token=await place.handed_over()) == (204, {})
    await place.view(visitor=known)
    await until(lambda: place.world.pool.fetchval("select count(*) = 1 from visit"))

    async def drained() -> bool:
        await place.seen(1)
        return not await place.world.pool.fetchval("select count(*) from visit")

    await until(drained)
    assert len(await place.seen(1)) == 1


async def test_a_robots_view_is_kept_and_earns_nothing(place: Place) -> None:
    await place.view(token=await place.handed_over(), agent="Mozilla/5.0 (X11) HeadlessChrome/128.0 Safari/537.36")

    assert await place.judged(1) == [(f"http://{SITE}/prices", "machine")]
    assert place.offered == []


async def test_a_scanner_that_runs_scripts_earns_nothing_by_it(place: Place) -> None:
    """A sandbox with a browser's name: its views have the verdict on its click, also those of later days."""
    await place.world.pool.execute("update ledger set ended = now() + interval '1 h'")  # nothing has its 250 yet
    known = (await place.view(token=await place.handed_over()))[1]["visitor"]
    assert await place.judged(1) == [(f"http://{SITE}/prices", "scanner")]

    await place.view(visitor=known, url=f"http://{SITE}/cart")

    assert (await place.judged(2))[1] == (f"http://{SITE}/cart", "scanner")
    assert place.offered == []
    assert await place.world.pool.fetchval("select data->'why' from event where kind = 'page' limit 1") == ["click"]


async def test_a_view_waits_until_its_click_is_judged(place: Place) -> None:
    await place.world.queued(2, begun=True)
    async with place.http.get(clicked(2, place.world.links[0]), allow_redirects=False) as answer:
        token = answer.headers["Location"].partition("mtad=")[2]
    await place.view(token=token)
    await until(lambda: place.world.pool.fetchval("select judged_until() > at from visit"))
    await ripen(place.world.pool, offer=place.offer)
    assert await place.world.pool.fetchval("select count(*) from visit") == 1

    await place.world.ended(2, at=datetime.now(UTC) + timedelta(minutes=1))

    assert await place.judged(1) == [(f"http://{SITE}/prices", "machine")]  # before the dot
    assert place.offered == []


# Told what it would be where the page is drawn before anybody looks at it; and counts what it sends.
PAGE = """<!doctype html><title>shop</title><body><script>
var sent = 0, really = fetch;
fetch = function () { sent++; return really.apply(this, arguments); };
function prerendering(now) { Object.defineProperty(document, "prerendering", {value: now, configurable: true}); }
prerendering({prerendering});
</script><script src="{tracker}/v.js" {consent}></script>
"""
SHOWN = 'prerendering(false); document.dispatchEvent(new Event("prerenderingchange")); sent'


async def test_in_a_browser_the_parameter_becomes_a_cookie_of_the_site(place: Place) -> None:
    site = web.Application()
    base = str(place.http._base_url).rstrip("/")

    async def shop(request: web.Request) -> web.Response:
        said = {"tracker": base, "consent": "", "prerendering": "false", **request.query}
        text = PAGE
        for name in ("tracker", "consent", "prerendering"):
            text = text.replace(f"{{{name}}}", said[name])
        return web.Response(text=text, content_type="text/html")

    site.router.add_get("/prices", shop)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, SITE, 0).start()
    prices = f"http://{SITE}:{runner.addresses[0][1]}/prices"
    token = await place.handed_over()
    try:
        async with running_browser() as browser:
            await browser.call("Emulation.setUserAgentOverride", userAgent=BROWSER)

            await browser.open(f"{prices}?x=1&mtad={token}")
            assert await browser.value("location.search") == "?x=1"  # nobody copies the parameter out of the address
            assert await browser.value("[sent, document.cookie]") == [0, ""]

            await browser.open(f"{prices}?consent=data-consent%3Dyes&prerendering=true&mtad={token}")
            assert await browser.value("[sent, document.cookie]") == [0, ""]  # nobody looks yet
            assert await browser.value(SHOWN) == 1
            await until(lambda: browser.value("document.cookie.startsWith('mtad=')"))
    finally:
        await runner.cleanup()

    assert await place.judged(1) == [(prices, "human")]
