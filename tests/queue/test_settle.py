"""What became of mails, from the queue to the ledger, once."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from mtad.queue import store
from mtad.queue.store import Ended
from tests.queue.world import World, delivered


async def test_a_delivered_mail_leaves_the_queue_for_the_ledger_and_moves_its_entry(world: World) -> None:
    job = await world.job(entry=True)
    worker = await world.worker()
    (facts,) = await world.claim(worker)
    await world.rows.engagement(world.program, facts.contact_id)
    await store.begin(world.rows.conn, worker, world.offers([facts]))
    at = datetime.now(UTC)

    settled = await store.settle_ended(
        world.rows.conn, worker, 0,
        [Ended(facts, "delivered", reply="250 ok", attempts=1, dot_at=at, ended=at, next_node="nudge-2", next_wait=60)],
    )  # fmt: skip

    assert settled == {job}
    assert await world.ledger() == [(job, "delivered", "")]
    assert await world.pool.fetchval("select count(*) from job") == 0
    entry = await world.pool.fetchrow("select node, due, ended from entry")
    assert entry is not None
    assert tuple(entry.values()) == ("nudge-2", at + timedelta(seconds=60), None)
    assert await world.pool.fetchval("select first_sent from engagement") == at
    assert await world.pool.fetchval("select n from tally where key = 'delivered'") == 1


async def test_each_mail_of_a_batch_keeps_its_own_ending(world: World) -> None:
    jobs = [await world.job(f"c{n}@reader.test") for n in range(4)]
    worker = await world.worker()
    facts = await world.claim(worker)
    ends = [
        ("delivered", "", "250 a"),
        ("bounced", "BadDomain", "550 b"),
        ("delivered", "", "250 c"),
        ("expired", "x", None),
    ]

    settled = await store.settle_ended(
        world.rows.conn, worker, 0, [Ended(f, *end[:2], reply=end[2]) for f, end in zip(facts, ends, strict=True)]
    )

    rows = await world.pool.fetch("select outcome::text, reason, reply from ledger order by job_id")
    assert settled == set(jobs)
    assert [tuple(row) for row in rows] == ends


async def test_each_entry_of_a_batch_goes_on_or_ends_as_its_own_mail_says(world: World) -> None:
    """One that does both is over where it has gone to."""
    for n in range(3):
        await world.job(f"c{n}@reader.test", entry=True)
    worker = await world.worker()
    facts = await world.claim(worker)
    at = datetime.now(UTC)
    goes: list[dict[str, Any]] = [
        {"next_node": "nudge-2", "next_wait": 60.5}, {"why": "clicked"}, {"next_node": "nudge-2", "why": "finished"},
    ]  # fmt: skip
    ends = [Ended(f, "delivered", attempts=1, ended=at, **how) for f, how in zip(facts, goes, strict=True)]

    await store.settle_ended(world.rows.conn, worker, 0, ends)

    rows = await world.pool.fetch("select node, due, ended, why from entry order by contact_id")
    assert [tuple(row) for row in rows] == [
        ("nudge-2", at + timedelta(seconds=60.5), None, None),
        ("nudge-1", None, at, "clicked"),
        ("nudge-2", None, at, "finished"),
    ]


async def test_two_deliveries_to_one_contact_in_one_batch_begin_one_round_with_the_earlier(world: World) -> None:
    await world.job()
    await world.job(mail=2)
    worker = await world.worker()
    late, early = await world.claim(worker)
    at = datetime.now(UTC)
    times = (at, at - timedelta(minutes=1))

    settled = await store.settle_ended(
        world.rows.conn, worker, 0,
        [Ended(facts, "delivered", attempts=1, ended=ended) for facts, ended in zip((late, early), times, strict=True)],
    )  # fmt: skip

    assert len(settled) == len(await world.ledger()) == 2
    rows = await world.pool.fetch("select first_sent, round_from, told from engagement")
    assert [tuple(row) for row in rows] == [(times[1],) * 3]


async def test_the_time_of_an_ending_told_in_seconds_is_right_to_the_microsecond(world: World) -> None:
    luck = random.Random(1)
    first = datetime(2020, 1, 1, tzinfo=UTC)
    times = [
        first + timedelta(days=luck.randrange(7_305), microseconds=luck.randrange(86_400_000_000)) for _ in "x" * 5_000
    ]

    wrong = await world.rows.conn.fetch(
        "select s, t from unnest($1::float8[], $2::timestamptz[]) as x (s, t) where to_timestamp(s) <> t",
        [at.timestamp() for at in times], times,
    )  # fmt: skip

    assert not wrong


async def test_settling_twice_counts_once(world: World) -> None:
    await world.job()
    worker = await world.worker()
    (facts,) = await world.claim(worker)

    # The same batch may hold it twice: whoever gave up waiting asked again.
    first = await store.settle_ended(world.rows.conn, worker, 0, [delivered(facts), delivered(facts)])
    second = await store.settle_ended(world.rows.conn, worker, 0, [delivered(facts)])

    assert (len(first), len(second)) == (1, 0)
    assert await world.pool.fetchval("select n from tally where key = 'delivered'") == 1


async def test_a_worker_declared_dead_settles_nothing_but_a_late_250(world: World) -> None:
    await world.job("a@reader.test")
    await world.job("b@reader.test")
    worker = await world.worker()
    one, two = await world.claim(worker)
    await store.begin(world.rows.conn, worker, world.offers([one]))
    assert await store.bury(world.rows.conn, [worker], [60] * 3) == (1, 1)

    bounced = await store.settle_ended(world.rows.conn, worker, 0, [Ended(one, "bounced", "x"), Ended(two, "bounced")])
    late = await store.settle_ended(world.rows.conn, worker, 0, [delivered(one), delivered(two)])

    assert bounced == set()
    assert late == {one.job_id}


async def test_the_first_mail_on_a_stream_begins_the_round_of_who_had_no_row(world: World) -> None:
    await world.job()
    worker = await world.worker()
    (facts,) = await world.claim(worker)
    at = datetime.now(UTC)

    await store.settle_ended(world.rows.conn, worker, 0, [Ended(facts, "delivered", attempts=1, ended=at)])

    row = await world.pool.fetchrow("select state::text, first_sent, round_from, score from engagement")
    assert row is not None
    assert tuple(row.values()) == ("active", at, at, 0)
