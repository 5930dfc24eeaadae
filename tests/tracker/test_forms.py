"""The pages and forms of people over real sockets: what a desk is asked, and what is answered."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.clock import SystemClock
from tests.tracker.made import KEYS
from tests.tracker.outside import Outside, leaving, served
from tracker import tokens
from tracker.desk import BURST, WIDER, Act, Asking, Confirmed, Form, Person, Subscription, Visitor
from tracker.hits import Kind
from tracker.limits import Limits
from tracker.web import make_app

FORM = Form("site", 2, "de", "", "Der Brief", "", "Ja, schreibt mir.", "Messt mich.")
GOOD = {"form": "site", "version": "2", "email": "ann@reader.test", "consent": "1"}
PERSON = Person("ann@reader.test", "ru", 1, [Subscription(1, "<Brief>", True, None, True, False, True)])


class FakeDesk:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, str, Visitor, bool]] = []
        self.confirmed: list[tuple[int, Visitor]] = []
        self.acts: list[tuple[Act, int, int | None]] = []
        self.used: list[tuple[str, str]] = []
        self.most = 1_000
        self.answer = Confirmed.DONE
        self.came_to: Confirmed | None = None
        self.away = False
        self.done = True

    def _here(self) -> None:
        if self.away:
            raise ConnectionRefusedError("away")

    async def person(self, contact_id: int, program_id: int) -> Person | None:
        self._here()
        return PERSON if contact_id == 11 else None

    async def form(self, name: str) -> Form | None:
        self._here()
        return FORM if name == "site" else None

    async def subscribe(self, name: str, version: int, address: str, visitor: Visitor, *, measuring: bool) -> bool:
        self._here()
        if "@" not in address:
            raise ValueError("no @ in it")
        self.asked.append((name, version, address, visitor, measuring))
        return True

    async def asking(self, job_id: int) -> Asking | None:
        self._here()
        return Asking("de", "Ja, schreibt <mir>.", "Messt mich.", self.came_to) if job_id == 7 else None

    async def allow(self, household: str, network: str) -> bool:
        self._here()
        self.used.append((household, network))
        return len(self.used) <= self.most

    async def confirm(self, job_id: int, visitor: Visitor, *, event_id: UUID, at: datetime) -> Confirmed:
        self._here()
        self.confirmed.append((job_id, visitor))
        return self.answer

    async def act(
        self,
        act: Act,
        contact_id: int,
        stream_id: int | None,
        visitor: Visitor,
        *,
        event_id: UUID,
        at: datetime,
        late: bool = False,
    ) -> bool:
        self._here()
        self.acts.append((act, contact_id, stream_id))
        return self.done


class StoppedClock(SystemClock):
    """No limit is refilled while a slow machine is at it."""

    def monotonic(self) -> float:
        return 1_000.0


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
async def http(desk: FakeDesk, outside: Outside) -> AsyncIterator[aiohttp.ClientSession]:
    app = make_app(
        keys=KEYS,
        links=outside,
        record=outside.record,
        unsubscribe=outside.unsubscribe,
        trusted_proxies=["127.0.0.0/8"],
        ready=lambda: True,
        clock=StoppedClock(),
        desk=desk,
    )
    async with served(app) as base, aiohttp.ClientSession(base) as session:
        yield session


def confirming(job: int = 7) -> str:
    return tokens.confirm_url("", tokens.confirm_token(KEYS, job))


def preferring(contact: int = 11) -> str:
    return tokens.preferences_url("", tokens.preferences_token(KEYS, contact, 13))


# ── Signing up ──────────────────────────────────────────────────────────────


async def test_what_a_form_posts_is_asked_for_with_who_did_it(http: aiohttp.ClientSession, desk: FakeDesk) -> None:
    headers = {"X-Forwarded-For": "6.6.6.6, 203.0.113.77", "User-Agent": "Firefox", "Referer": "https://a.test/join"}
    async with http.post("/subscribe", data={**GOOD, "measuring": "1"}, headers=headers) as answer:
        assert (answer.status, "Postfach" in await answer.text()) == (200, True)

    ((name, version, address, visitor, measuring),) = desk.asked
    assert (name, version, address, measuring) == ("site", 2, "ann@reader.test", True)
    assert visitor == Visitor("203.0.113.77", "Firefox", "https://a.test/join")


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ({**GOOD, "website": "https://buy.test"}, 200, "mailbox"),
        ({**GOOD, "form": "nowhere"}, 404, "does not work"),
        ({**GOOD, "form": "a\x00"}, 404, "does not work"),
        ({**GOOD, "email": "ann"}, 422, "keine Mailadresse"),
        ({"form": "site", "version": "2", "email": "<b>@x"}, 422, "&lt;b&gt;@x"),
        ({"form": "site", "version": "2", "email": "ann@reader.test"}, 422, "Bitte kreuzen Sie das an"),
        ({}, 404, "does not work"),
    ],
)
async def test_what_is_no_sign_up_asks_nobody(
    http: aiohttp.ClientSession, desk: FakeDesk, given: dict[str, str], status: int, says: str
) -> None:
    async with http.post("/subscribe", data=given) as answer:
        assert (answer.status, says in await answer.text()) == (status, True)
    assert desk.asked == []


@pytest.mark.parametrize("shown", ["1", "02", "", None])
async def test_whoever_was_shown_other_words_agrees_anew_to_those_of_now(
    http: aiohttp.ClientSession, desk: FakeDesk, shown: str | None
) -> None:
    given = {name: text for name, text in {**GOOD, "measuring": "1", "version": shown}.items() if text is not None}
    async with http.post("/subscribe", data=given) as answer:
        html = await answer.text()

    assert (answer.status, "Dieser Wortlaut gilt jetzt" in html, desk.asked) == (422, True, [])
    assert 'name="version" value="2"' in html
    assert 'value="ann@reader.test"' in html
    assert " checked" not in html


async def test_without_a_database_nobody_is_told_that_a_mail_comes(http: aiohttp.ClientSession, desk: FakeDesk) -> None:
    desk.away = True
    for path, data in (("/subscribe", GOOD), (confirming(), {}), (preferring(), {"act": "break"})):
        async with http.post(path, data=data) as answer:
            assert (answer.status, answer.headers.get("Retry-After")) == (503, "60"), path
    async with http.get("/s/site") as answer:
        assert answer.status == 503


async def test_a_robot_is_slowed_down_and_its_neighbours_are_not(http: aiohttp.ClientSession, desk: FakeDesk) -> None:
    async def tries(address: str) -> int:
        async with http.post("/subscribe", data=GOOD, headers={"X-Forwarded-For": address}) as answer:
            return answer.status

    assert [await tries("203.0.113.77") for _ in range(BURST + 1)] == [200] * BURST + [429]
    assert await tries("203.0.113.78") == 200
    assert len(desk.asked) == len(desk.used) == BURST + 1, "a flood costs the database nothing"
    desk.most = 0
    assert await tries("2001:db8:1:2::7") == 429, "what other workers have seen counts too"
    assert desk.used[-1] == ("2001:db8:1:2::/64", "2001:db8:1::/48")


async def test_who_has_many_households_is_slowed_down_in_all_of_them(
    http: aiohttp.ClientSession, desk: FakeDesk
) -> None:
    async def tries(address: str) -> int:
        async with http.post("/subscribe", data=GOOD, headers={"X-Forwarded-For": address}) as answer:
            return answer.status

    found = [await tries(f"2001:db8:1:{number:x}::7") for number in range(WIDER * BURST + 1)]

    assert found == [200] * WIDER * BURST + [429]
    assert await tries("2001:db8:2::7") == 200


@pytest.mark.parametrize(("path", "data"), [(preferring(), {"act": "break"}), (confirming(), {})])
async def test_a_link_that_was_forwarded_is_no_way_to_write_without_bound_nor_to_lock_anybody_out(
    http: aiohttp.ClientSession, desk: FakeDesk, path: str, data: dict[str, str]
) -> None:
    async def tries(address: str) -> int:
        async with http.post(path, data=data, headers={"X-Forwarded-For": address}) as answer:
            return answer.status

    found = [await tries(f"2001:db8:1:{number:x}::7") for number in range(BURST + 1)]
    assert found == [200] * BURST + [429], "whoever has many households is one"
    assert await tries("203.0.113.78") == 200, "the person herself"
    done = len(desk.acts) + len(desk.confirmed)
    assert done == BURST + 1
    found = [await tries(f"198.51.100.{number}") for number in range(WIDER * BURST - done + 1)]
    assert found == [200] * (WIDER * BURST - done) + [429]


@pytest.mark.parametrize(
    ("path", "data", "most"),
    [
        (leaving(), {"List-Unsubscribe": "One-Click"}, WIDER * BURST),
        (preferring(), {"act": "leave", "stream": "2"}, BURST),
    ],
)
async def test_leaving_is_never_too_often(
    http: aiohttp.ClientSession, outside: Outside, path: str, data: dict[str, str], most: int
) -> None:
    for _ in range(most + 1):
        async with http.post(path, data=data) as answer:
            assert answer.status == 200

    assert len(outside.hits) == most + 1, "each is noted"


@pytest.mark.parametrize(("stream", "how"), [({"stream": "2"}, "preferences 2"), ({}, "preferences")])
async def test_leaving_by_preferences_is_journalled_before_the_database_is_asked(
    http: aiohttp.ClientSession, desk: FakeDesk, outside: Outside, stream: dict[str, str], how: str
) -> None:
    for desk.away, outside.full, status, says in (
        (False, False, 200, "Сохранено"),
        (True, False, 200, "noted"),
        (True, True, 503, "try again"),
    ):
        async with http.post(preferring(), data={"act": "leave", **stream}) as answer:
            assert (answer.status, says in await answer.text()) == (status, True)

    assert [(hit.kind, hit.contact_id, hit.program_id, hit.how) for hit in outside.hits] == [
        (Kind.UNSUBSCRIBE, 11, 13, how)
    ] * 2


@pytest.mark.parametrize("path", ["/subscribe", confirming(), preferring(), leaving()])
async def test_bodies_are_small(http: aiohttp.ClientSession, desk: FakeDesk, path: str) -> None:
    async with http.post(path, data=b"a=" + b"x" * 4096) as answer:
        assert answer.status == 413
    assert (desk.asked, desk.confirmed, desk.acts) == ([], [], [])


@pytest.mark.parametrize("path", ["/subscribe", confirming(), preferring(), leaving()])
async def test_who_does_not_send_the_body_is_not_waited_for(
    http: aiohttp.ClientSession, desk: FakeDesk, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.answers.BODY_PATIENCE", 0.02)
    base = http._base_url
    assert base is not None
    reader, writer = await asyncio.open_connection(base.host, base.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\nConnection: close\r\n\r\na=".encode())

    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    assert (desk.asked, desk.confirmed, desk.acts) == ([], [], [])


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100)), max_size=200))
def test_no_key_is_used_more_often_than_its_limit_and_few_are_remembered(uses: list[tuple[int, float]]) -> None:
    limits = Limits(burst=3, refill=10.0, most_keys=4)
    alone = Limits(burst=3, refill=10.0)
    taken: list[float] = []
    now = 0.0
    for key, pause in uses:
        now += pause
        limits.take(str(key), now)
        if key == 0 and alone.take("0", now):
            taken.append(now)
        assert len(limits._free_at) <= 4

    for first, last in zip(taken, taken[3:], strict=False):
        assert last - first >= 10.0 - 1e-6


# ── Confirming and preferring ───────────────────────────────────────────────


@pytest.mark.parametrize(
    ("came_to", "status", "says"),
    [
        (Confirmed.DONE, 200, "Sie sind angemeldet"),
        (Confirmed.USED, 200, "schon benutzt"),
        (Confirmed.UNKNOWN, 404, "ist abgelaufen"),
    ],
)
async def test_the_button_says_what_a_confirmation_came_to(
    http: aiohttp.ClientSession, desk: FakeDesk, came_to: Confirmed, status: int, says: str
) -> None:
    desk.answer = came_to
    async with http.post(confirming(), data={"confirm": "1"}, allow_redirects=False) as answer:
        assert (answer.status, says in await answer.text()) == (status, True)
    assert [job for job, _ in desk.confirmed] == [7]


PURPOSES = {
    "/u/": tokens.contact_token(KEYS, 11, 13),
    "/p/": tokens.preferences_token(KEYS, 11, 13),
    "/confirm/": tokens.confirm_token(KEYS, 7),
}


@pytest.mark.parametrize("prefix", PURPOSES)
@pytest.mark.parametrize("of", ["x", *PURPOSES])
async def test_a_token_opens_the_page_that_it_is_for_and_no_other(
    http: aiohttp.ClientSession, desk: FakeDesk, prefix: str, of: str
) -> None:
    path = prefix + PURPOSES.get(of, "A" * 36)
    async with http.get(path, allow_redirects=False) as answer:
        assert answer.status == (200 if prefix == of else 404)
        assert "Location" not in answer.headers
    if prefix != of:
        async with http.post(path, data={"act": "leave"}, allow_redirects=False) as answer:
            assert answer.status in (200, 404)
        assert (desk.confirmed, desk.acts) == ([], [])


async def test_a_preview_leads_nowhere(http: aiohttp.ClientSession, desk: FakeDesk) -> None:
    for path in (confirming(0), preferring(0)):
        for method in ("GET", "POST"):
            async with http.request(method, path) as answer:
                assert (answer.status, "was a test" in await answer.text()) == (200, True)
    assert (desk.confirmed, desk.acts) == ([], [])


@pytest.mark.parametrize(
    ("given", "acts"),
    [
        ({"act": "leave", "stream": "1"}, [(Act.LEAVE, 11, 1)]),
        ({"act": "unmeasure"}, [(Act.UNMEASURE, 11, None)]),
        ({"act": "erase", "stream": "1"}, []),
        ({"act": "leave", "stream": "x"}, []),
        ({}, []),
    ],
)
async def test_a_button_does_what_it_says(
    http: aiohttp.ClientSession, desk: FakeDesk, given: dict[str, str], acts: list[object]
) -> None:
    async with http.post(preferring(), data=given) as answer:
        text = await answer.text()
        assert (answer.status, "a•••@reader.test" in text, "&lt;Brief&gt;" in text) == (200, True, True)
        assert "reader.test" not in text.replace("a•••@reader.test", "")
        assert ('role="status"' in text) is bool(acts)
    assert desk.acts == acts


async def test_who_wants_back_is_told_whether_another_mail_comes(http: aiohttp.ClientSession, desk: FakeDesk) -> None:
    for desk.done, says in ((True, "Мы отправляем вам письмо"), (False, "Мы уже отправили")):
        async with http.post(preferring(), data={"act": "return", "stream": "1"}) as answer:
            assert says in await answer.text()


async def test_pages_of_a_person_are_in_her_language_and_without_a_database_in_the_browsers(
    http: aiohttp.ClientSession, desk: FakeDesk
) -> None:
    for path, hers, without in ((leaving(), "ru", 200), (confirming(), "de", 503)):
        for desk.away, status, language in ((False, 200, hers), (True, without, "en")):
            async with http.get(path) as answer:
                assert (answer.status, answer.headers["Content-Language"]) == (status, language)


async def test_the_page_that_confirms_shows_the_words_of_the_proof_until_it_is_answered(
    http: aiohttp.ClientSession, desk: FakeDesk
) -> None:
    async with http.get(confirming()) as answer:
        text = await answer.text()
        assert re.findall("<blockquote>(.*)</blockquote>", text) == ["Ja, schreibt &lt;mir&gt;.", "Messt mich."]
    for job, desk.came_to, status, says in (
        (8, None, 404, "expired"),
        (7, Confirmed.DONE, 200, "Sie sind angemeldet"),
        (7, Confirmed.USED, 200, "schon benutzt"),
    ):
        async with http.get(confirming(job)) as answer:
            text = await answer.text()
            assert (answer.status, says in text, "<button" in text) == (status, True, False)


async def test_a_database_that_hangs_does_not_keep_anybody_from_leaving(
    http: aiohttp.ClientSession, desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.answers.LOOK_PATIENCE", 0.05)

    async def hang(contact_id: int, program_id: int) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(desk, "person", hang)
    async with http.get(leaving()) as answer:
        assert (answer.status, "Unsubscribe?" in await answer.text()) == (200, True)


@pytest.mark.parametrize("path", ["/s/site", "/s/nowhere", leaving(), preferring(), confirming(), "/u/x"])
async def test_nobody_may_keep_index_frame_or_refer_from_a_page(http: aiohttp.ClientSession, path: str) -> None:
    for method in ("GET", "HEAD"):
        async with http.request(method, path) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["X-Robots-Tag"] == "noindex"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert "Set-Cookie" not in answer.headers
