"""The way out: the one click of mail programs, byte for byte, and the page with the button."""

import asyncio
import base64
import hashlib
import re

import aiohttp
import pytest

from tests.tracker.outside import Outside, clicked, forged, leaving, opened, raw
from tracker.hits import Kind


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
