"""What happens beside the mail counts where a stream has a rule for it, and once."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.free import Free, free_fact, page_of
from engine.policy import Policy
from engine.policytable import PolicyTable, parse_policy
from engine.rules import EventRule
from engine.service import fold, offer, retell
from mtad.base.errors import InputError
from tests.engine.world import DAY, START, World, definition, event_id

POLICY = Policy(
    events=(
        EventRule(event="purchase", where={"kind": ["trial"]}, points=3),
        EventRule(event="purchase", points=20),
        EventRule(event="login"),
    ),
    pages=("www.example.com/prices*", "shop.example.com/cart"),
)


class Did(msgspec.Struct):
    event_id: UUID
    contact_id: int
    event: str
    at: datetime
    properties: Mapping[str, Any]
    job_id: int | None = None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://www.example.com/prices", "www.example.com/prices*"),
        ("https://www.example.com/prices/annual", "www.example.com/prices*"),
        ("http://shop.example.com/cart", "shop.example.com/cart"),
        ("https://shop.example.com/cart/2", None),
        ("https://evil.test/www.example.com/prices", None),
        ("https://wwwXexample.com/prices", None),
    ],
)
def test_a_page_of_high_intent_fits_a_pattern(url: str, expected: str | None) -> None:
    assert page_of(POLICY, url) == expected


@pytest.mark.parametrize("page", ["*", "www.example.com", "https://www.example.com/x", "*/x", ""])
def test_a_pattern_that_would_fit_everybodys_pages_is_refused(page: str) -> None:
    with pytest.raises(InputError, match=r"policy\.pages: write host and path"):
        parse_policy(PolicyTable(pages=(page,)))


def test_an_event_is_worth_what_the_first_rule_that_fits_says() -> None:
    def points(event: str, **properties: object) -> int | None:
        fact = free_fact((1, 2), Free(event_id(1), event, START, properties), POLICY)
        return fact.event.points if fact else None

    assert [points("purchase", kind="trial"), points("purchase"), points("login"), points("cart")] == [3, 20, 0, None]


async def did(
    world: World, contact: int, event: str, number: int, *, at: datetime = START + DAY, **properties: object
) -> None:
    """Written and offered, as the tracker does both."""
    id_ = event_id(number)
    data = {"url": properties["url"], "class": "human"} if event == "page" else {"properties": properties}
    await world.conn.execute(
        "insert into event (id, kind, at, contact_id, data) values ($1, $2, $3, $4, $5)", id_, event, at, contact, data
    )
    async with world.conn.transaction():
        await offer(world.conn, [Did(id_, contact, event, at, properties)])


async def test_every_stream_with_a_rule_counts_it_and_no_other(world: World) -> None:
    sales = await world.stream("sales", policy=POLICY)
    news = await world.stream("news")
    untracked = await world.stream("untracked", policy=POLICY, tracking="none")
    contact = await world.contact("a@example.com", sales, news, untracked)
    for stream in (sales, news, untracked):
        await world.engagement(stream, contact)

    await did(world, contact, "purchase", 1)

    assert await world.state(sales, contact) == ("engaged", 20)
    assert await world.state(news, contact) == ("active", 0)
    assert await world.state(untracked, contact) == ("active", 0)


async def test_a_login_without_points_brings_somebody_back(world: World) -> None:
    stream = await world.stream(policy=POLICY)
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact, state="cooling", cycle=1, cool_until=START + 30 * DAY)

    await did(world, contact, "login", 1)

    assert await world.state(stream, contact) == ("reactivated", 0)


async def test_a_page_counts_once_a_rule_and_day_also_when_all_is_replayed(world: World) -> None:
    stream = await world.stream(policy=msgspec.structs.replace(POLICY, threshold=1000))
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.mailed(program, contact)
    await world.engagement(stream, contact)
    prices, cart = "https://www.example.com/prices", "https://shop.example.com/cart"
    hour = timedelta(hours=1)
    for number, (at, url) in enumerate([
        (DAY, prices), (DAY + hour, prices + "/annual"), (DAY + 2 * hour, cart), (2 * DAY, prices), (DAY / 2, prices),
    ]):  # fmt: skip
        await did(world, contact, "page", number + 1, at=START + at, url=url)

    before = await world.state(stream, contact)
    async with world.conn.transaction():
        await retell(world.conn, [(stream, contact)])

    assert before == await world.state(stream, contact) == ("active", 15 * 4)


async def test_a_click_that_was_none_takes_back_what_it_did(world: World) -> None:
    stream = await world.stream(policy=msgspec.structs.replace(POLICY, threshold=10))
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    job = await world.mailed(program, contact)
    await world.hit(job, "click", number=1)
    await fold(world.pool)
    assert await world.state(stream, contact) == ("engaged", 10)

    async with world.conn.transaction():
        await world.conn.execute("update event set class = 'scanner'")
        await retell(world.conn, [(stream, contact)])

    assert await world.state(stream, contact) == ("active", 0)
    assert await world.conn.fetchval("select count(*) from answer") == 0
    assert await world.conn.fetchval("select count(*) from transition where takes_back is not null") == 1
