"""Page views: of people who agreed, handed over once, on the operator's own sites."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web

from mtad.base.clock import SystemClock
from mtad.base.db import Connection, Pool
from tests.tracker.made import BROWSER, KEYS, World
from tests.tracker.outside import Outside, served
from tests.tracker.test_tracker import clicked, serving, until
from tracker.handover import GOOD_FOR, Handover
from tracker.occurrences import Occurrence
from tracker.pageviews import BURST, SCRIPT
from tracker.web import make_app

SITE = "127.0.0.1"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
HANDOVER = Handover(KEYS, ["shop.test", SITE])
NOW = 1_800_000_000.0


def test_the_script_is_at_most_2_kb() -> None:
    assert len(SCRIPT) <= 2048


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
    assert HANDOVER.read(found.partition("mtad=")[2].partition("#")[0], NOW) == 17


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


def test_what_is_handed_over_is_good_for_an_hour_and_nothing_else() -> None:
    token = HANDOVER.address("https://shop.test/", 17, NOW).partition("mtad=")[2]

    assert HANDOVER.read(token, NOW + GOOD_FOR) == 17
    assert HANDOVER.read(token, NOW + GOOD_FOR + 1) is None
    assert HANDOVER.read_visitor(token) is None
    assert HANDOVER.read(HANDOVER.visitor(17), NOW) is None


class Place:
    """A tracker with one mail, a browser for it, and what was offered to the engine."""

    def __init__(self, http: aiohttp.ClientSession, world: World) -> None:
        self.http = http
        self.world = world
        self.offered: list[Occurrence] = []

    async def handed_over(self) -> str:
        async with self.http.get(clicked(1, self.world.links[0]), allow_redirects=False) as answer:
            return answer.headers["Location"].partition("mtad=")[2]

    async def view(self, *, origin: str = f"http://{SITE}", **said: object) -> tuple[int, dict[str, Any]]:
        body = {"url": f"http://{SITE}/prices?secret=1#x", "consent": True, **said}
        async with self.http.post("/v", json=body, headers={"Origin": origin}) as answer:
            return answer.status, await answer.json() if answer.status == 200 else {}

    async def seen(self, count: int) -> list[str]:
        """The addresses of the page views that were kept, as soon as there are so many."""

        async def there() -> bool:
            return bool(await self.world.pool.fetchval("select count(*) >= $1 from event where kind = 'page'", count))

        await until(there)
        rows = await self.world.pool.fetch("select data->>'url' from event where kind = 'page' order by id")
        return [row[0] for row in rows]


@pytest.fixture
async def place(pool: Pool, tmp_path: Path) -> AsyncIterator[Place]:
    world = await World(pool).seed(urls=(f"http://{SITE}/prices?x=1",))
    await world.ended(1)
    await pool.execute('update stream_version set definition = definition || \'{"tracking": "full"}\'::jsonb')
    offered: list[Occurrence] = []

    async def offer(_conn: Connection, occurrences: Sequence[Occurrence]) -> None:
        offered.extend(occurrences)

    async with serving(pool, tmp_path, sites=[SITE], offer=offer) as (http, _):
        await until(lambda: _loaded(http))
        made = Place(http, world)
        made.offered = offered
        yield made


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
    place: Place, origin: str, said: dict[str, object], status: int
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
        said = {"url": "https://shop.test/", "consent": True, "visitor": HANDOVER.visitor(visitor)}
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
    await place.handed_over()  # a click behind it in the journal
    await until(lambda: place.world.pool.fetchval("select count(*) = 3 from pending"))

    assert len(await place.seen(1)) == 1


PAGE = """<!doctype html><title>shop</title><body>
<script src="{tracker}/v.js" {consent}></script>
<script>setTimeout(() => document.body.append("at " + location.search + " knows " + document.cookie), {after})</script>
"""


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
@pytest.mark.parametrize("consent", ["data-consent=yes", ""])
async def test_in_a_browser_the_parameter_becomes_a_cookie_of_the_site(
    place: Place, tmp_path: Path, consent: str
) -> None:
    site = web.Application()
    base = str(place.http._base_url).rstrip("/")

    async def shop(_: web.Request) -> web.Response:
        text = PAGE.replace("{tracker}", base).replace("{consent}", consent).replace("{after}", "1500")
        return web.Response(text=text, content_type="text/html")

    site.router.add_get("/prices", shop)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, SITE, 0).start()
    port = runner.addresses[0][1]
    token = await place.handed_over()
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000",
        f"--user-agent={BROWSER}",
        f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", f"http://{SITE}:{port}/prices?x=1&mtad={token}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        shown = (await asyncio.wait_for(browser.communicate(), 60))[0].decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            browser.kill()
        await runner.cleanup()

    assert "at ?x=1 knows" in shown  # nobody copies the parameter out of the address
    assert ("knows mtad=" in shown) == bool(consent)
    if consent:
        assert await place.seen(1) == [f"http://{SITE}:{port}/prices"]
    else:
        assert (await place.view(token=token))[0] == 200  # nothing was used up
