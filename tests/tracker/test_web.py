"""What recipients and their programs get, over real sockets: pixels, clicks, and the rest."""

import asyncio

import aiohttp
import pytest

from mtad.base.ids import unix_ms_of
from tests.tracker.made import BROWSER
from tests.tracker.outside import Outside, clicked, forged, leaving, opened, raw, slowly
from tracker.hits import Kind, Method
from tracker.links import Link
from tracker.noting import DROPPED

ODD_URLS = [
    "https://a.test",
    "https://a.test/?a=1&b=%2f%2F&c=%zz&d=+ +",
    "https://a.test/a//b/../c/./d;x=y?#frag#ment",
    "HTTP://USER:pa%20ss@A.test:080/?q=https://b.test",
    "https://a.test/ü?ключ=знач",
    "https://a.test/{0}",
]


# ── Pixel ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/o/x.gif", "/o/.gif", "/o/" + "A" * 36 + ".gif", forged(opened()), opened()])
async def test_every_pixel_is_the_picture_and_stored_nowhere(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as answer:
        body = await answer.read()

        assert (answer.status, answer.content_type, len(body)) == (200, "image/gif", 43)
        assert body.startswith(b"GIF89a")
        assert {name: value for name, value in answer.headers.items() if name not in ("Date", "Content-Type")} == {
            "Cache-Control": "no-store, no-cache, must-revalidate, max-age=0, private",
            "Pragma": "no-cache",
            "Expires": "0",
            "Content-Length": "43",
        }


async def test_only_good_tokens_are_journalled(http: aiohttp.ClientSession, outside: Outside) -> None:
    for path in (forged(opened()), forged(clicked()), forged(leaving()), clicked().replace("/c/", "/o/"), "/c/x"):
        await http.get(path)
        await http.head(path)
    assert outside.hits == []

    await http.get(opened(), headers={"X-Forwarded-For": "198.51.100.77"})
    hit = outside.hits[0]
    assert (hit.kind, hit.method, hit.job_id, hit.link_id) == (Kind.OPEN, Method.GET, 7, 3)
    assert (hit.agent, hit.network) == (BROWSER, "198.51.100.0/24")
    assert unix_ms_of(hit.event_id) == int(hit.at.timestamp() * 1000)


async def test_agents_are_cut_and_cleaned(outside: Outside) -> None:
    agent = b"a\xff\xfe\xed\xa0\x80" + "é".encode() + b"x" * 300
    await raw(outside, b"GET " + opened().encode() + b" HTTP/1.1\r\nHost: t\r\nUser-Agent: " + agent + b"\r\n\r\n")

    assert len(outside.hits[0].agent) == 200
    assert outside.hits[0].agent.isprintable()


# ── Click ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", ODD_URLS)
async def test_a_click_leads_to_the_stored_url_byte_for_byte(outside: Outside, url: str) -> None:
    outside.links[3] = Link(url, tracked=True, message_id=1)

    status, headers, _ = await raw(outside, f"GET {clicked()} HTTP/1.1\r\nHost: t\r\n\r\n".encode())

    assert (status, headers["location"]) == (302, url)
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-robots-tag"] == "noindex"
    assert [hit.kind for hit in outside.hits] == [Kind.CLICK]


async def test_values_are_filled_only_as_they_were_signed(outside: Outside) -> None:
    outside.links[3] = Link("https://a.test/{1}?q={0}", tracked=True, message_id=1)
    path = clicked(values=("a/b &", ".."))

    status, headers, _ = await raw(outside, f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
    assert (status, headers["location"]) == (302, "https://a.test/..?q=a%2Fb%20%26")
    for other in (path.replace("a%2Fb", "a%2Fc"), path + "/-x", path.rsplit("/", 1)[0], path + "/"):
        status, headers, _ = await raw(outside, f"GET {other} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        assert status == 404
        assert "location" not in headers


async def test_what_is_no_link_of_ours_is_a_plain_page(http: aiohttp.ClientSession, outside: Outside) -> None:
    outside.links[4] = Link("", tracked=True, message_id=1)
    for path in ("/c/x", forged(clicked()), opened().replace("/o/", "/c/")[:-4], clicked(link=9), clicked(link=4)):
        async with http.get(path, allow_redirects=False) as answer:
            assert answer.status == 404, path
            assert "Location" not in answer.headers
            assert "does not work" in await answer.text()


async def test_a_link_that_cannot_be_looked_up_now_is_not_called_wrong(
    http: aiohttp.ClientSession, outside: Outside
) -> None:
    outside.away = True
    async with http.get(clicked(), allow_redirects=False) as answer:
        assert answer.status == 503


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("GET", {}, Method.GET),
        ("HEAD", {}, Method.HEAD),
        ("HEAD", {"Purpose": "prefetch"}, Method.HEAD),
        ("GET", {"Sec-Purpose": "prefetch;prerender"}, Method.PREFETCH),
        ("GET", {"Purpose": "prefetch"}, Method.PREFETCH),
        ("GET", {"X-Moz": "prefetch"}, Method.PREFETCH),
        ("GET", {"X-Purpose": "preview"}, Method.PREFETCH),
        ("GET", {"Purpose": "Preview"}, Method.PREFETCH),
    ],
)
async def test_how_it_was_asked_for_is_noted(
    http: aiohttp.ClientSession, outside: Outside, method: str, headers: dict[str, str], expected: Method
) -> None:
    outside.links[3] = Link("https://a.test/", tracked=True, message_id=1)
    async with http.request(method, clicked(), headers=headers, allow_redirects=False) as answer:
        assert answer.status == 302
    assert outside.hits[0].method is expected


async def test_a_full_disk_is_not_the_readers_fault(http: aiohttp.ClientSession, outside: Outside) -> None:
    outside.links[3] = Link("https://a.test/", tracked=True, message_id=1)
    outside.full = True
    before = DROPPED.labels(kind="click")._value.get()

    async with http.get(clicked(), allow_redirects=False) as answer:
        assert answer.status == 302
    async with http.get(opened()) as answer:
        assert answer.status == 200
    assert DROPPED.labels(kind="click")._value.get() == before + 1


async def test_nothing_is_answered_before_it_is_durable(
    http: aiohttp.ClientSession, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.noting.JOURNAL_PATIENCE", 60.0)
    async with slowly() as (port, asked, durable):
        answer = asyncio.ensure_future(http.get(f"http://127.0.0.1:{port}{opened()}").__aenter__())
        await asked.wait()
        await http.get("/healthz")  # a whole round trip later
        assert not answer.done()
        durable.set()
        (await answer).release()


async def test_a_full_disk_is_logged_once_until_it_is_over(
    http: aiohttp.ClientSession, outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    for outside.full in (True, True, False, True):
        async with http.get(opened()) as answer:
            assert answer.status == 200

    assert [record.message for record in caplog.records] == ["hits cannot be journalled"] * 2


# ── What is said of it in the log ───────────────────────────────────────────


async def test_what_clients_do_wrong_is_not_logged(outside: Outside, caplog: pytest.LogCaptureFixture) -> None:
    for request in (
        f"GET {leaving()} HTTP/1.1\r\nHost t\r\n\r\n".encode(),
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        f"POST {leaving()} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
    ):
        assert (await raw(outside, request))[0] == 400

    assert caplog.records == []


async def test_a_defect_is_logged_without_the_client(
    outside: Outside, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "get", None)
    outside.links[3] = Link("https://a.test/", tracked=True, message_id=1)

    status, _, _ = await raw(outside, f"GET {clicked()} HTTP/1.1\r\nHost: t\r\n\r\n".encode())

    assert status == 500
    assert [(record.message, bool(record.exc_info)) for record in caplog.records] == [("a request failed", True)]
    assert "127.0.0.1" not in caplog.text


# ── The rest ────────────────────────────────────────────────────────────────


async def test_robots_favicon_and_health(http: aiohttp.ClientSession, outside: Outside) -> None:
    async with http.get("/robots.txt") as answer:
        assert await answer.text() == "User-agent: *\nDisallow: /\n"
    async with http.get("/favicon.ico") as answer:
        assert answer.status == 204
    async with http.get("/healthz") as answer:
        assert answer.status == 200
    outside.ready = False
    async with http.get("/healthz") as answer:
        assert answer.status == 503


@pytest.mark.parametrize("path", [opened(), clicked()])
async def test_nobody_posts_to_pixels_and_links(http: aiohttp.ClientSession, outside: Outside, path: str) -> None:
    async with http.post(path) as answer:
        assert answer.status == 405
    assert outside.hits == []
