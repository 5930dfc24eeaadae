"""What recipients and their programs get, over real sockets."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web

from mtad.base.clock import SystemClock
from mtad.base.ids import unix_ms_of
from tests.tracker.made import BROWSER, KEYS
from tracker import tokens
from tracker.hits import Hit, Kind, Method
from tracker.links import Link
from tracker.noting import DROPPED
from tracker.tokens import Purpose
from tracker.web import make_app, make_runner

ODD_URLS = [
    "https://a.test",
    "https://a.test/?a=1&b=%2f%2F&c=%zz&d=+ +",
    "https://a.test/a//b/../c/./d;x=y?#frag#ment",
    "HTTP://USER:pa%20ss@A.test:080/?q=https://b.test",
    "https://a.test/ü?ключ=знач",
    "https://a.test/{0}",
]


class Outside:
    """Stands for disk, database and links; each can be made to fail."""

    def __init__(self) -> None:
        self.hits: list[Hit] = []
        self.left: list[tuple[UUID, int, int, datetime, str]] = []
        self.links: dict[int, Link] = {}
        self.full = False
        self.away = False
        self.ready = True
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.base = ""

    async def record(self, hit: Hit) -> None:
        if self.full:
            raise OSError("No space left on device")
        self.hits.append(hit)

    async def unsubscribe(self, *, event_id: UUID, contact_id: int, program_id: int, at: datetime, how: str) -> None:
        assert self.full or [hit.event_id for hit in self.hits][-1] == event_id, "journalled first"
        self.asked.set()
        await self.gate.wait()
        if self.away:
            raise ConnectionRefusedError("away")
        self.left.append((event_id, contact_id, program_id, at, how))

    def get(self, link_id: int) -> Link | None:
        return self.links.get(link_id)

    async def find(self, link_id: int) -> bool:
        return not self.away


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    made = Outside()
    app = make_app(
        keys=KEYS,
        links=made,
        record=made.record,
        unsubscribe=made.unsubscribe,
        trusted_proxies=["127.0.0.0/8"],
        ready=lambda: made.ready,
        clock=SystemClock(),
    )
    runner = make_runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


@pytest.fixture
async def http(outside: Outside) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(outside.base, headers={"User-Agent": BROWSER}) as session:
        yield session


async def raw(outside: Outside, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send just these bytes; status, headers (names in lower case) and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(outside.base.rsplit(":", 1)[1]))
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    writer.close()
    return int(head[0].split()[1]), headers, body


def opened(job: int = 7, link: int = 3) -> str:
    return "/o/" + tokens.link_token(KEYS, Purpose.OPEN, job, link) + ".gif"


def clicked(job: int = 7, link: int = 3, values: tuple[str, ...] = ()) -> str:
    return tokens.click_url("", tokens.link_token(KEYS, Purpose.CLICK, job, link, values), values)


def leaving(contact: int = 11) -> str:
    return tokens.unsubscribe_url("", tokens.contact_token(KEYS, contact, 13))


def forged(path: str) -> str:
    """The same address with another MAC."""
    return path[:20] + ("A" if path[20] != "A" else "B") + path[21:]


def one_click(path: str, body: bytes, content_type: str) -> bytes:
    """Just what RFC 8058 section 3.2 asks for: no cookie, no user agent."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: t.y.test\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


URLENCODED = (b"List-Unsubscribe=One-Click", "application/x-www-form-urlencoded")
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n',
    "multipart/form-data; boundary=b",
)


# ── Pixel ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/o/x.gif", "/o/.gif", "/o/" + "A" * 36 + ".gif", forged(opened()), opened()])
async def test_every_pixel_is_the_picture_and_stored_nowhere(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as answer:
        body = await answer.read()

        assert (answer.status, answer.content_type, len(body)) == (200, "image/gif", 43)
        assert body.startswith(b"GIF89a")
        assert answer.headers["Cache-Control"].startswith("no-store")
        assert "Server" not in answer.headers


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
    asked, durable = asyncio.Event(), asyncio.Event()

    async def slow(hit: Hit) -> None:
        asked.set()
        await durable.wait()

    app = make_app(
        keys=KEYS, links=outside, record=slow, unsubscribe=outside.unsubscribe, trusted_proxies=[],
        ready=lambda: True, clock=SystemClock(),
    )  # fmt: skip
    runner = make_runner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}{opened()}"
    answer = asyncio.ensure_future(http.get(url).__aenter__())
    try:
        await asked.wait()
        await http.get("/healthz")  # a whole round trip later
        assert not answer.done()
        durable.set()
        (await answer).release()
    finally:
        await runner.cleanup()


async def test_a_full_disk_is_logged_once_until_it_is_over(
    http: aiohttp.ClientSession, outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    for outside.full in (True, True, False, True):
        async with http.get(opened()) as answer:
            assert answer.status == 200

    assert [record.message for record in caplog.records] == ["hits cannot be journalled"] * 2


# ── The way out ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_looking_is_not_leaving(http: aiohttp.ClientSession, outside: Outside, method: str) -> None:
    for query in ("", "?List-Unsubscribe=One-Click", "?confirm=1"):
        async with http.request(method, leaving() + query) as answer:
            assert answer.status == 200
    assert outside.left == []
    assert {hit.kind for hit in outside.hits} == {Kind.LOOK}


@pytest.mark.parametrize(("body", "content_type"), [URLENCODED, MULTIPART], ids=["urlencoded", "multipart"])
async def test_one_click_without_cookie_or_agent_leaves(outside: Outside, body: bytes, content_type: str) -> None:
    status, headers, _ = await raw(outside, one_click(leaving(), body, content_type))

    assert status == 200
    assert not {"location", "set-cookie"} & set(headers)
    ((event_id, *what),) = outside.left
    hit = outside.hits[0]
    assert event_id == hit.event_id
    assert what == [11, 13, hit.at, "one_click"]
    assert (hit.kind, hit.agent, hit.how) == (Kind.UNSUBSCRIBE, "", "one_click")


@pytest.mark.parametrize("agent", ["", "curl/8", "Go-http-client/1.1", "Mozilla/5.0", "somebot"])
async def test_one_click_asks_for_no_particular_agent(outside: Outside, agent: str) -> None:
    request = one_click(leaving(), *URLENCODED).replace(b"Host: t", f"User-Agent: {agent}\r\nHost: t".encode(), 1)

    assert (await raw(outside, request))[0] == 200
    assert len(outside.left) == 1


@pytest.mark.parametrize("path", ["/u/x", forged(leaving()), "/u/" + opened()[3:-4], "/u/" + clicked()[3:]])
async def test_one_click_with_a_bad_token_is_2xx_and_nothing_done(outside: Outside, path: str) -> None:
    status, headers, _ = await raw(outside, one_click(path, *URLENCODED))

    assert 200 <= status < 300
    assert "location" not in headers
    assert (outside.hits, outside.left) == ([], [])


async def test_one_click_is_answered_after_the_commit(outside: Outside) -> None:
    outside.gate.clear()
    answer = asyncio.create_task(raw(outside, one_click(leaving(), *URLENCODED)))
    await outside.asked.wait()
    await raw(outside, b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")

    assert not answer.done()
    outside.gate.set()
    assert (await answer)[0] == 200


async def test_without_a_database_one_click_is_503_and_journalled(outside: Outside) -> None:
    outside.away = True

    status, headers, _ = await raw(outside, one_click(leaving(), *URLENCODED))

    assert (status, headers["retry-after"]) == (503, "60")
    assert [hit.kind for hit in outside.hits] == [Kind.UNSUBSCRIBE]


async def test_a_database_that_hangs_is_one_that_is_away(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.answers.COMMIT_PATIENCE", 0.05)
    outside.gate.clear()

    assert (await raw(outside, one_click(leaving(), *URLENCODED)))[0] == 503


async def test_with_a_full_disk_the_commit_is_enough(outside: Outside) -> None:
    outside.full = True

    assert (await raw(outside, one_click(leaving(), *URLENCODED)))[0] == 200
    assert len(outside.left) == 1


@pytest.mark.parametrize(
    ("away", "full", "status", "says"),
    [
        (False, False, 200, "You are unsubscribed"),
        (True, False, 200, "We have noted it"),
        (True, True, 503, "That did not work"),
    ],
)
async def test_the_button_tells_a_person_what_happened(
    http: aiohttp.ClientSession, outside: Outside, away: bool, full: bool, status: int, says: str
) -> None:
    outside.away, outside.full = away, full
    async with http.post(leaving(), data={"confirm": "1"}, allow_redirects=False) as answer:
        assert answer.status == status
        assert says in await answer.text()
    assert [what[-1] for what in outside.left] == ([] if away else ["page"])


async def test_the_button_with_a_bad_token_says_so(http: aiohttp.ClientSession, outside: Outside) -> None:
    async with http.post(forged(leaving()), data={"confirm": "1"}) as answer:
        assert "does not work" in await answer.text()
    assert outside.left == []


async def test_the_way_out_of_a_preview_is_nobodys(http: aiohttp.ClientSession, outside: Outside) -> None:
    outside.away = True  # nothing is asked of it
    path = leaving(contact=0)
    async with http.get(path) as answer:
        text = await answer.text()
        assert (answer.status, "This mail was a test" in text, "<form" in text) == (200, True, False)
    async with http.post(path, data={"confirm": "1"}) as answer:
        assert (answer.status, "This mail was a test" in await answer.text()) == (200, True)

    assert (await raw(outside, one_click(path, *URLENCODED)))[0] == 200
    assert (outside.hits, outside.left) == ([], [])


async def test_a_body_that_cannot_be_read_is_no_reason_to_stay(outside: Outside) -> None:
    request = one_click(leaving(), *URLENCODED).replace(b"Host:", b"Content-Encoding: gzip\r\nHost:", 1)

    assert (await raw(outside, request))[0] == 200
    assert [what[-1] for what in outside.left] == ["one_click"]


async def test_a_body_beyond_reason_is_refused(http: aiohttp.ClientSession, outside: Outside) -> None:
    async with http.post(leaving(), data=b"x" * 9000) as answer:
        assert answer.status == 413
    assert outside.left == []


@pytest.mark.parametrize(
    ("accept", "language", "button"),
    [
        ("", "en", "Unsubscribe"),
        ("de-AT,de;q=0.9,en;q=0.8", "de", "Abmelden"),
        ("fr, ru;q=0.5, en;q=0.1", "ru", "Отписаться"),
        ("de;q=0, en;q=0.1", "en", "Unsubscribe"),
        ("xx;q=nonsense,,;", "en", "Unsubscribe"),
    ],
)
async def test_the_page_speaks_the_readers_language(
    http: aiohttp.ClientSession, accept: str, language: str, button: str
) -> None:
    async with http.get(leaving(), headers={"Accept-Language": accept}) as answer:
        text = await answer.text()
        assert f'<html lang="{language}">' in text
        assert f">{button}</button>" in text
        assert answer.headers["Content-Language"] == language


async def test_the_page_needs_nothing_from_outside_and_its_policy_allows_its_style(http: aiohttp.ClientSession) -> None:
    async with http.get(leaving()) as answer:
        text, policy = await answer.text(), answer.headers["Content-Security-Policy"]

    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"<script|https?:|url\(|@import|src=|href=", text)
    assert 'name="viewport"' in text
    assert len(text) < 4000


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
