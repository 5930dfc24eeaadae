"""What came back by mail, told to `POST /events`: late bounces, complaints, and people who are away."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from engine.service import fold, offer, retell
from mtad.base.db import in_transaction
from mtad.base.ids import message_id
from tests.engine.world import DAY, START, World, definition, event_id
from tracker.intake import read_items
from tracker.occurrences import take_in

NOW = START + 2 * DAY

Told = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def told(world: World) -> Told:
    """Tell one report as another server would; the errors."""

    async def tell(event: str, **item: Any) -> list[str]:
        body = json.dumps({"id": event, "event": event, **item}).encode()
        items, refused = read_items(body, NOW, [event_id(900)])
        taken = await take_in(world.pool, "mailbox", items, offer=offer)
        return [one.error for one in (*refused, *taken.errors)]

    return tell


async def known(world: World, *streams: int) -> int:
    contact = await world.contact("a@example.com", *streams)
    await world.conn.execute("insert into identity values ('email', 'a@example.com', $1)", contact)
    return contact


@pytest.mark.parametrize("named", [True, False])
async def test_a_late_bounce_takes_its_mail_back_and_suppresses_the_address(
    world: World, told: Told, named: bool
) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await known(world, stream)
    first, last = [await world.mailed(program, contact, at=at) for at in (START - 2 * DAY, START)]
    await world.engagement(stream, contact, told=START)
    entry = await world.entry(program, contact, entered=START - 3 * DAY)
    job = await world.queued(program, contact)
    await world.hit(first, "open", at=START - DAY)
    await fold(world.pool)
    of = {"message_id": message_id(first, START - 2 * DAY, "example.com")} if named else {"email": "a@example.com"}

    assert await told("bounced", **of) == []

    marked = await world.conn.fetch("select job_id from ledger where bounced_late = $1", NOW)
    assert [row[0] for row in marked] == [first if named else last]
    assert await world.one("select key, scope::text, reason, until - $1 from suppression", NOW) == (
        "a@example.com", "all", "hard_bounce", 180 * DAY,
    )  # fmt: skip
    assert (await world.why(entry), await world.due(job)) == ("bounced", True)
    # As if there had been but the other mail: of somebody who was not mailed yet an answer earns nothing.
    row = await world.one("select first_sent, score, window_until from engagement")
    assert row == ((START, 0, START + 3 * DAY) if named else (START - 2 * DAY, 5, None))


async def test_a_complaint_ends_advertising(world: World, told: Told) -> None:
    contact = await known(world, await world.stream())

    assert await told("complained", email="A@example.com") == []

    assert await world.conn.fetchval("select scope::text from suppression where reason = 'complained'") == "marketing"
    assert await world.gate(contact) == 2


@pytest.mark.parametrize(
    ("properties", "back"), [({}, NOW + 14 * DAY), ({"until": "2026-11-09t09:00:00.5z"}, START + 8 * DAY)]
)
async def test_who_is_away_is_given_the_time_until_then(
    world: World, told: Told, properties: dict[str, str], back: Any
) -> None:
    stream, other = await world.stream(), await world.stream("other")
    program = await world.program(stream, definition("winback", kind="reactivation"))
    contact = await known(world, stream, other)
    await world.mailed(program, contact, at=START)
    await world.engagement(stream, contact, window_until=START + 3 * DAY, told=START)
    await world.engagement(other, contact, state="trying", cycle=1)
    entry = await world.entry(program, contact)
    await world.conn.execute("update entry set due = $1", START + 4 * DAY)

    assert await told("out_of_office", email="a@example.com", properties=properties) == []

    assert await world.conn.fetchval("select due from entry where id = $1", entry) - back < timedelta(seconds=1)
    window = await world.conn.fetchval("select window_until from engagement where stream_id = $1", stream)
    assert window - back < timedelta(seconds=1)
    await in_transaction(world.pool, lambda conn: retell(conn, [(stream, contact)]))
    assert window == await world.conn.fetchval("select window_until from engagement where stream_id = $1", stream)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"event": "bounced", "message_id": "<1@y.test>"}, "message_id: '<1@y.test>' is none of ours"),
        ({"event": "bounced", "message_id": "<job.1.5@y.test>"}, "message_id: nobody is known by that"),
        ({"event": "purchase", "message_id": "<job.1.5@y.test>"}, "message_id: belongs to bounced, complained, out"),
        ({"event": "out_of_office", "properties": {"until": "Monday"}}, "properties.until: 'Monday' is no time"),
        ({"event": "out_of_office", "properties": {"until": "2026-11-09T09:00:00"}}, "properties.until"),
        ({"event": "out_of_office", "properties": {"until": "2036-11-09T09:00:00Z"}}, "more than 366 days ahead"),
    ],
)
async def test_a_report_that_names_nothing_is_refused(
    world: World, told: Told, item: dict[str, Any], said: str
) -> None:
    await known(world)
    email = {} if item["event"] == "bounced" else {"email": "a@example.com"}

    (error,) = await told(**email, **item)

    assert said in error
