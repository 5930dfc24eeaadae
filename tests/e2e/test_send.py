"""The main job over real HTTP, SMTP and Postgres, with everything else going on."""

import asyncio

import pytest

from mtad.lab.verify import Verifier
from mtad.queue import store
from tests.e2e.place import SERIES, Place

OTHERS = [f"other{n}@reader.test" for n in range(300)]
CLOSED = 3600.0


async def close_lane(place: Place) -> None:
    async with place.pool.acquire() as conn:
        lane = await conn.fetchval("select id from lane")
        await store.close_lane(conn, lane, CLOSED, "the test says so")


async def open_lane(place: Place) -> None:
    await place.pool.execute("update lane set closed_until = '-infinity'")


@pytest.mark.parametrize("place", [2000], indirect=True)
async def test_who_leaves_or_responds_while_mail_is_queued_gets_nothing_more_of_the_series(place: Place) -> None:
    ann, bob = "ann@reader.test", "bob@reader.test"
    await place.import_people([ann, bob, *OTHERS])
    await place.mtad("program", "apply", place.write("series.toml", SERIES))
    await place.mtad("program", "start", "series")

    # Ann leaves while all second mails are in the queue.
    await a_day_passes(place, delivered=302)
    first = await place.letter(bob, 1)
    await place.open(first)
    assert await place.click(first) == "https://shop.example/a?x=1&y=2"
    await place.leave(await place.letter(ann, 1))
    await open_lane(place)

    # Bob reaches 20 points while all third mails are: 5 + 10 for the first mail, 5 for the second.
    await a_day_passes(place, delivered=603)
    await place.open(await place.letter(bob, 2))
    await place.until_count("select count(*) from engagement where state = 'engaged'", 1)
    await open_lane(place)
    await place.until_count("select count(*) from ledger where outcome = 'delivered'", 903)
    await place.pool.execute("update entry set due = now() where due is not null")
    await place.until_over("series")

    await place.apply_campaign("news")
    await place.mtad("program", "start", "news")
    await place.until_over("news")
    copies = {who: [m.header("Subject") for m in place.sink.messages if m.recipient == who] for who in (ann, bob)}
    assert copies[ann] == ["Mail one for Someone"]
    assert copies[bob] == ["Mail one for Someone", "Mail two for Someone", "Mail one for Someone"]
    reasons = await place.pool.fetch(
        "select c.address, p.name, l.reason from ledger l join contact c on c.id = l.contact_id"
        " join program p on p.id = l.program_id where l.outcome = 'skipped' order by 1, 2"
    )
    assert [tuple(row.values()) for row in reasons] == [
        (ann, "news", "unsubscribed"), (ann, "series", "unsubscribed"), (bob, "series", "left:engaged"),
    ]  # fmt: skip
    for program in ("series", "news"):
        assert (await place.mtad("audit", program))["adds_up"]
    verifier = Verifier.from_config(place.installation.config)
    verdicts = await asyncio.to_thread(verifier.verify_each, [m.message for m in place.sink.messages[::10]])
    assert all(verdict.signed and verdict.one_click for verdict in verdicts)


async def a_day_passes(place: Place, *, delivered: int) -> None:
    """So many mails have arrived and the next ones wait in the queue, at a closed lane."""
    await place.until_count("select count(*) from ledger where outcome = 'delivered'", delivered)
    await close_lane(place)
    await place.pool.execute("update entry set due = now() where due is not null")
    await place.until_count("select count(*) from entry where due is not null and ended is null", 0)
    assert await place.pool.fetchval("select count(*) from job") >= len(OTHERS)


@pytest.mark.parametrize("place", [300], indirect=True)
async def test_a_killed_worker_loses_nothing_and_copies_only_what_is_marked_in_doubt(place: Place) -> None:
    people = [f"p{n}@reader.test" for n in range(700)]
    await place.import_people(people)
    await place.apply_campaign("news")
    await place.mtad("program", "start", "news")
    before = await place.workers()
    await place.sink.wait_for(150)
    await place.kill(before[0])
    await place.until_over("news")

    after = await place.workers()
    copies, doubts = await place.copies_and_doubts("news")
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert set(doubts) == set(people)
    assert all(copies[who] >= 1 for who in people)
    assert all(copies[who] <= 1 + doubts[who] for who in people)
    assert (await place.mtad("audit", "news"))["adds_up"]


@pytest.mark.parametrize("place", [300], indirect=True)
async def test_a_restart_of_the_database_ends_no_process_and_loses_nothing(place: Place) -> None:
    people = [f"p{n}@reader.test" for n in range(700)]
    await place.import_people(people)
    await place.apply_campaign("news")
    await place.mtad("program", "start", "news")
    before = await place.workers()
    await place.sink.wait_for(150)
    await asyncio.to_thread(place.postgres.stop, "immediate")
    await place.until_over("news")

    copies, doubts = await place.copies_and_doubts("news")
    assert await place.workers() == before
    assert set(doubts) == set(people)
    assert all(1 <= copies[who] <= 1 + doubts[who] for who in people)
    assert (await place.mtad("audit", "news"))["adds_up"]
