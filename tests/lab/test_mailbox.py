"""The mailbox page shows one person's mails as they came, and where she stands."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web

from mtad.base.db import Pool
from mtad.lab.mailbox import Mailbox
from mtad.lab.sink import Received, Sink
from mtad.lab.verify import Verifier
from tests.lab.letters import LEAVE, letter

NOW = datetime(2026, 1, 1, 10, tzinfo=UTC)
HER = "viewer@x.test"


def received(to: str, message: bytes) -> Received:
    return Received("", to, message, NOW, answered=True, port=0, session=0)


@pytest.fixture
async def mailbox(pool: Pool) -> AsyncIterator[Mailbox]:
    sink = Sink()
    sink.messages += [received("other@x.test", letter(1)), received("Viewer@x.test", letter(2))]
    async with Mailbox(sink, pool, Verifier({}), name="Vera", address=HER, stream="news", threshold=20) as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def make_her(pool: Pool, *, state: str, score: int, subscription: str = "subscribed") -> None:
    async with pool.acquire() as conn:
        domain = await conn.fetchval("insert into domain (name) values ('x.test') returning id")
        contact = await conn.fetchval(
            "insert into contact (address, address_key, domain_id) values ($1, $1, $2) returning id", HER, domain
        )
        stream = await conn.fetchval("insert into stream (name, version) values ('news', 1) returning id")
        await conn.execute(
            "insert into subscription (stream_id, contact_id, status, basis, source, changed_by)"
            " values ($1, $2, $3::text::subscription_status, 'consent', 'test', 'test')",
            stream, contact, subscription,
        )  # fmt: skip
        await conn.execute(
            "insert into engagement (stream_id, contact_id, state, since, score, round_from, first_sent)"
            " values ($1, $2, $3::text::contact_state, $4, $5, $4, $4)",
            stream, contact, state, NOW, score,
        )  # fmt: skip
        await conn.execute(
            "insert into transition (stream_id, contact_id, to_state, why, fact, at)"
            " values ($1, $2, 'active', 'entered', 'job 1', $3)",
            stream, contact, NOW,
        )  # fmt: skip


async def test_only_her_own_mails_are_listed(mailbox: Mailbox, http: aiohttp.ClientSession) -> None:
    state = await (await http.get(mailbox.url + "state")).json()

    (mail,) = state["mails"]
    assert mail["subject"].startswith("Grüße aus dem Labor")
    assert (mail["signed"], mail["one_click"]) == (False, False)
    assert state["line"] == "Nothing has been sent to you yet."


@pytest.mark.parametrize(
    ("state", "subscription", "shown"),
    [
        ("active", "subscribed", "active"),
        ("cooling", "subscribed", "inactive"),
        ("active", "unsubscribed", "unsubscribed"),
    ],
)
async def test_state_and_score_come_from_the_database(
    mailbox: Mailbox, http: aiohttp.ClientSession, pool: Pool, state: str, subscription: str, shown: str
) -> None:
    await make_her(pool, state=state, score=15, subscription=subscription)
    told = await (await http.get(mailbox.url + "state")).json()

    assert (told["state"], told["score"], told["threshold"]) == (shown, 15, 20)
    assert told["story"] == [["10:00:00", "new → active (entered)"]]


async def test_the_html_is_framed_off_and_otherwise_as_it_came(mailbox: Mailbox, http: aiohttp.ClientSession) -> None:
    answer = await http.get(mailbox.url + "mail/0/html")
    text = await answer.text()

    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "allow-scripts" not in answer.headers["Content-Security-Policy"]
    assert "Grüße" in text.replace('<base target="_blank">', "")
    assert LEAVE in text


async def test_source_and_headers_are_the_bytes_that_arrived(mailbox: Mailbox, http: aiohttp.ClientSession) -> None:
    source = await http.get(mailbox.url + "mail/0/source")
    headers = await http.get(mailbox.url + "mail/0/headers")

    assert await source.read() == letter(2)
    assert letter(2).startswith(await headers.read() + b"\r\n\r\n")
    assert source.content_type == "text/plain"


async def test_a_mail_that_is_not_there_is_404(mailbox: Mailbox, http: aiohttp.ClientSession) -> None:
    answer = await http.get(mailbox.url + "mail/1/html")

    assert answer.status == 404


async def test_unsubscribe_posts_the_one_click_of_the_mail_itself(pool: Pool, http: aiohttp.ClientSession) -> None:
    posted: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        posted.append((request.path, await request.text()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/u/leave", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    here = f"http://127.0.0.1:{runner.addresses[0][1]}/u/leave"
    sink = Sink()
    sink.messages.append(received(HER, letter(1).replace(LEAVE.encode(), here.encode())))
    async with Mailbox(sink, pool, Verifier({}), name="Vera", address=HER, stream="news", threshold=20) as mailbox:
        told = await (await http.post(mailbox.url + "mail/0/leave")).text()
    await runner.cleanup()

    assert told == "unsubscribed"
    assert posted == [("/u/leave", "List-Unsubscribe=One-Click")]


async def test_the_page_and_the_place_that_links_lead_to_are_there(
    mailbox: Mailbox, http: aiohttp.ClientSession
) -> None:
    page = await (await http.get(mailbox.url)).text()
    landing = await (await http.get(mailbox.url + "shop/<b>")).text()

    assert "sandbox=" in page
    assert "<b>" not in landing
