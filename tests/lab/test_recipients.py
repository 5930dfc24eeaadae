"""Simulated recipients do what their character says, over real HTTP."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.clock import SystemClock
from mtad.lab.letter import read_letter
from mtad.lab.recipients import (
    RETURNS,
    SERIES_MAILS,
    SHARES,
    Act,
    Character,
    Recipients,
    character_of,
    network_of,
    plan,
    reads,
)
from mtad.lab.sink import Received
from tests.clock import ManualClock
from tests.lab.letters import BASE, LEAVE, PIXEL, letter

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEED = 1


def somebody(character: Character) -> str:
    """An address whose owner is of that character."""
    return next(address for n in range(10_000) if character_of(address := f"r{n}@x.test", SEED) is character)


def acts(character: Character, number: int) -> list[Act]:
    return plan(character, number, read_letter(letter()), random.Random(1))


def test_a_reader_answers_two_mails_with_an_open_and_a_click_each() -> None:
    kinds = [[act.kind for act in acts(Character.READER, number)] for number in (1, 2, 3)]

    assert kinds == [["open", "click"], ["open", "click"], []]


def test_a_click_follows_its_open() -> None:
    opened, clicked = acts(Character.READER, 1)

    assert clicked.after > opened.after


def test_a_leaver_posts_one_click_from_the_second_mail_and_from_no_other() -> None:
    (leaving,) = acts(Character.LEAVER, 2)
    others = [act.kind for number in (1, 3) for act in acts(Character.LEAVER, number)]

    assert (leaving.method, leaving.url, leaving.form) == ("POST", LEAVE, "List-Unsubscribe=One-Click")
    assert others == ["open"]


def test_what_a_person_reads_of_series_and_newsletter_is_what_is_planned() -> None:
    people = set(Character) - {Character.SCANNER, Character.APPLE, Character.SILENT}

    for character in people:
        for number in range(1, 6):
            planned = {act.kind for act in acts(character, number)}
            assert reads(character, number) == bool(planned & {"open", "click"}), (character, number)
    assert not any(reads(character, 1) for character in set(Character) - people)


def test_some_of_the_silent_answer_when_they_are_asked_whether_to_go_on() -> None:
    offered = read_letter(letter())
    asked = [plan(Character.SILENT, SERIES_MAILS + 1, offered, random.Random(n)) for n in range(1000)]
    answered = [act for acts in asked for act in acts]

    assert {(act.kind, act.url) for act in answered} == {("click", offered.links[0])}
    assert abs(len(answered) / 1000 - RETURNS) < 0.05
    assert plan(Character.SILENT, SERIES_MAILS, offered, random.Random(1)) == []


def test_a_scanner_fetches_everything_at_once_and_posts_nothing() -> None:
    scanned = acts(Character.SCANNER, 1)

    assert {act.url for act in scanned} == {PIXEL, LEAVE, f"{BASE}/c/one?a=1&b=2", f"{BASE}/c/two"}
    assert {act.method for act in scanned} == {"HEAD", "GET"}
    assert {act.after for act in scanned} == {0.0}


@given(st.sampled_from(Character), st.integers(1, 6))
def test_nobody_fails_on_a_mail_that_offers_nothing(character: Character, number: int) -> None:
    bare = read_letter(letter(html="<p>nothing</p>", one_click=False))

    assert plan(character, number, bare, random.Random(1)) == []


@given(st.emails(), st.integers())
def test_who_somebody_is_follows_from_address_and_seed(address: str, seed: int) -> None:
    assert character_of(address, seed) is character_of(address.upper().lower(), seed)
    assert network_of(address).startswith(("198.18.", "198.19."))


def test_all_characters_come_in_about_their_shares() -> None:
    people = [character_of(f"r{n}@x.test", SEED) for n in range(10_000)]

    for character, share in SHARES:
        assert abs(people.count(character) / 100 - share) < 3


Request = tuple[str, str, str, str, str]


class Web:
    """A web server that answers everything and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.answers: list[int] = []
        self.port = 0
        self.heard = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        agent = request.headers.get("User-Agent", "")
        body = await request.text()
        self.asked.append((request.method, request.path_qs, agent, request.headers["X-Forwarded-For"], body))
        self.heard.set()
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
async def server() -> AsyncIterator[Web]:
    told = Web()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", told.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    told.port = runner.addresses[0][1]
    yield told
    await runner.cleanup()


async def until(condition: Callable[[], bool], server: Web) -> None:
    """Wait for requests until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():
            server.heard.clear()
            await server.heard.wait()


def received(server: Web, address: str, number: int) -> Received:
    message = letter(number).replace(BASE.encode(), f"http://127.0.0.1:{server.port}".encode())
    return Received("", address, message, NOW, answered=True, port=0, session=0)


@pytest.fixture
async def recipients() -> AsyncIterator[Recipients]:
    made = Recipients(SystemClock(), seed=SEED, day=0.0)
    acting = asyncio.ensure_future(made.run())
    yield made
    acting.cancel()
    await asyncio.gather(acting, return_exceptions=True)


async def test_the_one_click_post_is_what_rfc_8058_asks_for(server: Web, recipients: Recipients) -> None:
    leaver = somebody(Character.LEAVER)
    recipients.deliver(received(server, leaver, 1))
    recipients.deliver(received(server, leaver, 2))
    await until(lambda: any(asked[0] == "POST" for asked in server.asked), server)

    (post,) = (asked for asked in server.asked if asked[0] == "POST")
    assert post == ("POST", "/u/leave", "", network_of(leaver), "List-Unsubscribe=One-Click")


async def test_a_second_copy_of_a_mail_is_not_read_again(server: Web, recipients: Recipients) -> None:
    opener = somebody(Character.OPENER)
    for number in (1, 1, 1, 2):
        recipients.deliver(received(server, opener, number))
    await until(lambda: len(server.asked) >= 2, server)

    assert [asked[1] for asked in server.asked] == ["/o/pixel.gif"] * 2


async def test_an_answer_that_is_an_error_is_told(server: Web, recipients: Recipients) -> None:
    server.answers = [500]
    recipients.deliver(received(server, somebody(Character.OPENER), 1))
    await until(lambda: bool(server.asked), server)
    async with asyncio.timeout(10):
        while not recipients.failed:  # noqa: ASYNC110 - the server hears of it before the client
            await asyncio.sleep(0)

    assert recipients.failed == ["open: GET was answered 500"]


async def test_nobody_acts_before_their_day_has_come(server: Web) -> None:
    clock = ManualClock(NOW)
    recipients = Recipients(clock, seed=SEED, day=100.0)
    acting = asyncio.ensure_future(recipients.run())
    recipients.deliver(received(server, somebody(Character.OPENER), 1))
    while not clock._sleepers:  # noqa: ASYNC110 - the clock does not tell who sleeps
        await asyncio.sleep(0)
    await clock.advance(49.0)
    early = list(server.asked)
    await clock.advance(201.0)
    await until(lambda: bool(server.asked), server)
    acting.cancel()
    await asyncio.gather(acting, return_exceptions=True)

    assert early == []
    assert len(server.asked) == 1


async def test_who_reads_for_herself_is_left_alone(server: Web) -> None:
    opener, viewer = somebody(Character.OPENER), "viewer@x.test"
    recipients = Recipients(SystemClock(), seed=SEED, day=0.0, besides=frozenset({viewer}))
    acting = asyncio.ensure_future(recipients.run())
    recipients.deliver(received(server, "Viewer@x.test", 1))
    recipients.deliver(received(server, opener, 1))
    await until(lambda: bool(server.asked), server)
    acting.cancel()
    await asyncio.gather(acting, return_exceptions=True)

    assert {asked[3] for asked in server.asked} == {network_of(opener)}
