"""Sources that are being warmed up: the day's plan over all workers, at midnight, and who gets what is left."""

from datetime import UTC, date, datetime, timedelta

import pytest

from mtad.base.source import Source, Warmup
from mtad.pipeline import allowances
from mtad.queue import suspensions, warmup
from mtad.source.warmup import Day, Step
from tests.pipeline.office import HastyClock
from tests.pipeline.place import COLD, Place
from tests.pipeline.receiver import Receiver
from tests.queue.world import World


class Calendar(HastyClock):
    """Days go by when a test says so."""

    days = 0

    def now(self) -> datetime:
        return super().now() + timedelta(days=Calendar.days)


def new(*plan: int) -> Source:
    return Source(name="new", address=("127.0.0.2",), warmup=Warmup(start=date(2026, 1, 1), plan=plan))


@pytest.fixture(autouse=True)
def calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Calendar, "days", 0)
    monkeypatch.setattr("tests.pipeline.place.HastyClock", Calendar)
    monkeypatch.setattr(allowances, "AGAIN", 0.05)


async def test_a_days_plan_is_kept_exactly_over_two_workers_and_the_rest_overflows(
    world: World, receiver: Receiver
) -> None:
    place = Place(world, receiver, new(21), COLD)
    await place.queue(300)

    async with place.workers(2):
        await place.until_delivered(300)
        queued = 300
        while (await place.sent_by())["new"] < 21:  # a few may have lain in the hand of the other worker
            await place.queue(5)
            await place.until_delivered(queued := queued + 5)
        await place.queue(50)
        await place.until_delivered(queued + 50)

    assert await place.sent_by() == {"new": 21, "cold": queued + 29}
    assert await world.pool.fetchval("select count(*) from lane where closed_until > now()") == 0


async def test_without_an_established_source_all_of_the_plan_is_sent_and_the_rest_waits_untouched(
    world: World, receiver: Receiver
) -> None:
    place = Place(world, receiver, new(21, 42))
    await place.queue(60)

    async with place.workers(2):
        await place.until_delivered(21)
        await place.until("select not exists (select from job where worker is not null)")
        assert await world.pool.fetchval("select count(*) from job where attempt = 0 and due <= now()") == 39
        assert receiver.mails == {"127.0.0.2": 21}

        Calendar.days = 1
        await place.until_delivered(60)

    days = await world.pool.fetch("select step, allowed, granted from warmup order by day")
    assert [tuple(row.values()) for row in days] == [(0, 21, 21), (1, 42, 39)]


async def test_a_source_does_not_send_before_its_first_day(world: World, receiver: Receiver) -> None:
    later = Warmup(start=datetime.now(UTC).date() + timedelta(days=2), plan=(10,))
    place = Place(world, receiver, Source(name="new", address=("127.0.0.2",), warmup=later), COLD)
    await place.queue(20)

    async with place.workers():
        await place.until_delivered(20)

    assert await place.sent_by() == {"cold": 20}
    assert receiver.most["127.0.0.2"] == 0


async def test_whoever_reads_gets_the_first_mails_of_a_new_source(world: World, receiver: Receiver) -> None:
    place = Place(world, receiver, new(8), COLD)
    await place.queue(60)
    keen = [row[0] for row in await world.pool.fetch("select contact_id from job order by id desc limit 8")]
    for contact in keen:
        await world.rows.engagement(world.program, contact, state="engaged")
    await suspensions.suspend(world.rows.conn, "source", "cold", until=None, reason="or it sends all 60", by="me")

    async with place.workers():
        await place.until("select count(*) = 8 from ledger where source = 'new'")
        await suspensions.lift(world.rows.conn, kind="source", key="cold", by="me")
        await place.until_delivered(60)

    assert {row[0] for row in await world.pool.fetch("select contact_id from ledger where source = 'new'")} == set(keen)


async def test_complaints_of_people_to_whom_a_source_delivered_hold_its_plan_back(
    world: World, receiver: Receiver
) -> None:
    place = Place(world, receiver, new(10))
    await place.queue(10)
    async with place.workers():
        await place.until_delivered(10)
    await world.pool.execute(
        "insert into suppression (key, scope, reason, source) values ('p1@reader.test', 'all', 'complained', 'loop')"
    )
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    last: list[Day | None] = []

    def noted(day: Day | None) -> Step:
        last.append(day)
        return Step(0, 10, "held")

    await warmup.grant(world.rows.conn, "new", "other", tomorrow, 1, 0, noted)

    assert last == [Day(0, 10, 10, 0, 1)]
    assert [(day.complaints, day.held, day.granted) for day in await warmup.days(world.rows.conn)] == [(1, "held", 1)]


async def test_what_is_refused_because_of_us_is_counted(world: World, receiver: Receiver) -> None:
    receiver.refuses = b"451 4.7.0 your IP address is on a blocklist\r\n"
    place = Place(world, receiver, new(30))
    await place.queue(3)

    async with place.workers():
        await place.until("select deferred = 3 from warmup")
