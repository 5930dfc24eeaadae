"""Claim, begin and settle on real Postgres."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from mtad.base.db import Pool
from mtad.queue import store
from mtad.queue.store import Ended, Released, Returned
from tests.queue.world import World, delivered, new_world, until_blocked


async def test_a_job_is_claimed_by_one_worker_only(world: World) -> None:
    jobs = {await world.job(f"c{n}@reader.test") for n in range(5)}
    one, two = await world.worker(0), await world.worker(1)

    first = await world.claim(one)
    second = await world.claim(two)

    assert {facts.job_id for facts in first} == jobs
    assert second == []


async def test_two_claims_at_once_share_nothing_and_wait_for_nobody(world: World) -> None:
    for n in range(5):
        await world.job(f"c{n}@reader.test")
    one, two = await world.worker(0), await world.worker(1)

    async with world.pool.acquire() as other, other.transaction():
        first = await store.claim(other, one, [])
        second = await store.claim(world.rows.conn, two, [])

    assert len(first) == 5
    assert second == []


async def test_transactional_mail_is_claimed_before_bulk_and_first_attempts_before_retries(world: World) -> None:
    retry = await world.job("a@reader.test", prio=5, attempt=1)
    bulk = await world.job("b@reader.test", prio=4)
    urgent = await world.job("c@reader.test", prio=0)

    claimed = await world.claim(await world.worker())

    assert [facts.job_id for facts in claimed] == [urgent, bulk, retry]


async def test_a_claim_brings_the_facts_of_its_own_moment(world: World) -> None:
    job = await world.job("Ann@reader.test", entry=True)
    contact = world.contacts[job]
    conn = world.rows.conn
    await conn.execute('update contact set attributes = \'{"first": "Ann"}\' where id = $1', contact)
    await conn.execute("insert into suppression (key, scope, reason, source) values"
                       " ('ann@reader.test', 'marketing', 'complained', 'arf')")  # fmt: skip
    await world.rows.engagement(world.program, contact, "engaged", 20)

    (facts,) = await world.claim(await world.worker())

    assert facts.address == "Ann@reader.test"
    assert facts.attributes == {"first": "Ann"}
    assert facts.subscription == "subscribed"
    assert (facts.suppressed_all, facts.suppressed_marketing) == (None, "complained")
    assert facts.state == "engaged"
    assert facts.node == "nudge-1"
    assert not facts.entry_ended
    assert facts.program_status == "running"


async def test_the_hint_of_a_site_moves_to_what_is_due_next(world: World) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    await world.job("a@reader.test")
    await world.job("b@reader.test", due=later)

    await world.claim(await world.worker())

    assert await world.pool.fetchval("select ready_at from site") == later


async def test_prios_before_and_behind_the_one_that_was_claimed_from_last_are_found(world: World) -> None:
    last = await world.job("a@reader.test", prio=6)
    worker = await world.worker()
    assert [facts.job_id for facts in await world.claim(worker)] == [last]
    jobs = [await world.job(f"p{prio}@reader.test", prio=prio) for prio in (2, 3, 4, 6, 9, 21)]
    await world.job("later@reader.test", prio=5, due=datetime.now(UTC) + timedelta(hours=1))
    await store.wake_sites(world.rows.conn, [world.site])

    assert [facts.job_id for facts in await store.claim(world.rows.conn, worker)] == jobs


async def test_a_hint_of_what_is_due_later_than_in_an_hour_comes_in_time(world: World) -> None:
    conn = world.rows.conn
    await world.job("a@reader.test")
    later = await world.job("b@reader.test", due=datetime.now(UTC) + timedelta(hours=2))
    await world.claim(await world.worker())
    await store.refresh_hints(conn)
    assert await conn.fetchval("select ready_at = 'infinity' from site")

    at = await conn.fetchval("update job set due = now() + interval '59 min' where id = $1 returning due", later)
    await store.refresh_hints(conn)

    assert await conn.fetchval("select ready_at from site") == at


async def test_a_lost_hint_is_found_again_in_the_due_index(world: World) -> None:
    await world.job()
    await world.pool.execute("update site set ready_at = 'infinity'")

    await store.refresh_hints(world.rows.conn)

    assert await world.pool.fetchval("select ready_at <= now() from site")


async def test_begin_lets_go_what_has_not_changed(world: World) -> None:
    job = await world.job()
    worker = await world.worker()
    claimed = await world.claim(worker)

    answers = await store.begin(world.rows.conn, worker, world.offers(claimed))

    assert answers == {job: 0}
    assert await world.pool.fetchval("select begun is not null from job")


async def test_each_offer_of_a_batch_is_compared_with_its_own_program_and_epoch(world: World) -> None:
    good, old_fence, old_epoch = [await world.job(f"c{n}@reader.test") for n in range(3)]
    worker = await world.worker()
    facts = await world.claim(worker)
    claimed = [
        facts[0],
        msgspec.structs.replace(facts[1], program_fence=facts[1].program_fence - 1),
        msgspec.structs.replace(facts[2], epoch=facts[2].epoch - 1),
    ]

    answers = await store.begin(world.rows.conn, worker, world.offers(claimed))

    assert answers == {good: 0, old_fence: None, old_epoch: None}
    await world.rows.conn.execute("update epoch set version = version + 1")
    assert await store.begin(world.rows.conn, worker, world.offers(facts[1:])) == {old_fence: None, old_epoch: None}


async def test_begin_refuses_a_job_that_was_taken_away(world: World) -> None:
    job = await world.job()
    worker = await world.worker()
    claimed = await world.claim(worker)
    await store.bury(world.rows.conn, [worker], [60] * 3)

    answers = await store.begin(world.rows.conn, worker, world.offers(claimed))

    assert answers == {job: None}


async def test_begin_takes_one_token_a_mail_and_says_how_long_the_others_wait(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn, rate=1, burst=4)
        jobs = [await world.job(f"c{n}@reader.test") for n in range(6)]
        worker = await world.worker()
        claimed = await world.claim(worker)

        answers = await store.begin(conn, worker, world.offers(claimed))

    # One of the burst of four is kept in reserve.
    assert [answers[job] for job in jobs[:3]] == [0, 0, 0]
    waits = [answers[job] for job in jobs[3:]]
    assert waits == pytest.approx([1, 2, 3], abs=0.05)


async def test_a_clock_that_was_wrong_closes_a_lane_for_one_burst_at_most(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn, rate=10, burst=20)
        job = await world.job()
        worker = await world.worker()
        await conn.execute("update lane set tat = now() + interval '1 day'")

        answers = await store.begin(conn, worker, world.offers(await world.claim(worker)))

    wait = answers[job]
    assert wait is not None
    assert 0 < wait <= 2


async def test_a_closed_lane_begins_nothing(world: World) -> None:
    job = await world.job()
    worker = await world.worker()
    claimed = await world.claim(worker)
    await store.close_lane(world.rows.conn, world.lane.id, 60, "421 too busy")

    answers = await store.begin(world.rows.conn, worker, world.offers(claimed))

    wait = answers[job]
    assert wait is not None
    assert 59 < wait <= 60
    assert await world.pool.fetchval("select begun is null from job")


async def test_sessions_of_all_workers_together_stay_within_the_limit(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn, sessions=3)
        one, two = await world.worker(0), await world.worker(1)

        assert await world.hold(one, 3) == 2, "its share of three for two workers"
        assert await world.hold(two, 2) == 1
        assert await world.hold(two, 2, 1, growing=True) == 1
        await store.bury(conn, [one], [60] * 3)
        assert await world.hold(two, 3, 1) == 3


async def test_sessions_asked_for_at_once_stay_within_the_limit(world: World) -> None:
    workers = [await world.worker(slot) for slot in range(2)]

    async def ask(worker: int) -> dict[int, store.Grant]:
        async with world.pool.acquire() as conn:
            return await store.hold_sessions(conn, worker, [store.Wish(world.lane.id, 8, 0, growing=True)])

    async with world.pool.acquire() as other:
        async with other.transaction():
            await other.execute("select from lane for no key update")
            asking = [asyncio.create_task(ask(worker)) for worker in workers]
            await until_blocked(world.pool, 2)
        held = [(await one)[world.lane.id].sessions for one in asking]

    assert sorted(held) == [0, 8]


async def test_what_others_do_not_use_can_be_had_and_is_given_back_session_by_session(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn, sessions=4)
        one, two = await world.worker(0), await world.worker(1)

        assert await world.hold(one, 4, growing=True) == 4
        assert await world.hold(two, 1) == 0
        assert await world.hold(one, 4, 3) == 3, "one of its sessions has ended, and it holds more than its share"
        assert await world.hold(two, 1) == 1
        assert await world.hold(one, 0) == 0


async def test_who_got_less_than_its_share_is_told_of_to_whoever_has_more_and_who_takes_no_more_then(
    pool: Pool,
) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn, sessions=4)
        one, two = await world.worker(0), await world.worker(1)

        async def grant(worker: int, wanted: int, running: int, *, growing: bool = False) -> store.Grant:
            wish = store.Wish(world.lane.id, wanted, running, growing)
            return (await store.hold_sessions(conn, worker, [wish]))[world.lane.id]

        assert await grant(one, 4, 0, growing=True) == store.Grant(4, share=2, others_lack=False)
        assert await grant(two, 3, 0, growing=True) == store.Grant(0, share=2, others_lack=False)
        assert await grant(one, 4, 4) == store.Grant(4, share=2, others_lack=True)
        assert await grant(one, 4, 1, growing=True) == store.Grant(2, share=2, others_lack=True)
        assert await grant(two, 3, 0) == store.Grant(2, share=2, others_lack=False)
        assert await grant(one, 4, 2, growing=True) == store.Grant(2, share=2, others_lack=False)
        assert await grant(two, 0, 0) == store.Grant(0, share=2, others_lack=False)
        assert await grant(one, 4, 2, growing=True) == store.Grant(4, share=2, others_lack=False)


async def test_a_worker_holds_at_least_what_runs(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn, sessions=4)
        worker = await world.worker()
        assert await world.hold(worker, 4) == 4
        await store.lanes_of(conn, [store.Limit(world.site, 10, 10, 1)])

        assert await world.hold(worker, 4, 3) == 3


async def test_of_a_full_site_transactional_mail_alone_is_claimed_and_of_a_shut_one_nothing(world: World) -> None:
    await world.job("bulk@reader.test")
    urgent = await world.job("urgent@reader.test", prio=0)
    worker = await world.worker()

    assert await world.claim(worker, shut=[world.site]) == []
    assert [facts.job_id for facts in await world.claim(worker, full=[world.site])] == [urgent]


async def test_transactional_mail_stands_in_no_line_of_sites_but_waits_for_a_closed_lane(world: World) -> None:
    conn = world.rows.conn
    sites = await store.sites_by_name(conn, {f"mx{n}.test": ["0 mx.test:25"] for n in range(2)})
    open_site, closed_site = sites.values()
    await world.job("bulk@reader.test")
    urgent = await world.job("urgent@reader.test", prio=0, site_id=open_site)
    await world.job("late@reader.test", prio=0, site_id=closed_site)
    await conn.execute("update site set ready_at = now() + interval '1 h' where id = $1", closed_site)

    claimed = await store.claim(conn, await world.worker(), sites=0)

    assert [facts.job_id for facts in claimed] == [urgent]


async def test_the_last_tenth_of_the_tokens_is_for_mail_that_yields_to_nobody(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn, rate=1, burst=21)  # one more is the lane's own reserve
        for n in range(20):
            await world.job(f"c{n}@reader.test")
        urgent = await world.job("urgent@reader.test", prio=0)
        worker = await world.worker()
        claimed = await world.claim(worker)
        bulk = [store.Offer(facts, world.lane.id, yields=True) for facts in claimed if facts.job_id != urgent]
        last = [store.Offer(facts, world.lane.id) for facts in claimed if facts.job_id == urgent]

        went = await store.begin(conn, worker, bulk)
        answers = await store.begin(conn, worker, last)

    assert list(went.values()).count(0) == 18
    assert answers == {urgent: 0}


async def test_each_offer_of_a_batch_yields_and_counts_for_itself(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn, rate=1, burst=21)
        jobs = [await world.job(f"c{n}@reader.test") for n in range(20)]
        worker = await world.worker()
        claimed = await world.claim(worker)
        offers = [
            store.Offer(facts, world.lane.id, yields=n % 2 == 1, counts=n % 3 == 0) for n, facts in enumerate(claimed)
        ]

        answers = await store.begin(conn, worker, offers)

        counted = await conn.fetch("select contact_id from gate where sent is not null order by 1")
    # Two tokens are kept from those that yield: the 19th mail may have one, the 20th may not.
    assert [job for job in jobs if answers[job] != 0] == jobs[19:]
    assert [row[0] for row in counted] == [world.contacts[job] for job in jobs[::3]]


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


async def test_what_a_dead_worker_had_begun_is_in_doubt_and_the_rest_is_due_as_before(world: World) -> None:
    begun, claimed = await world.job("a@reader.test"), await world.job("b@reader.test")
    worker = await world.worker()
    facts = await world.claim(worker)
    await store.begin(world.rows.conn, worker, world.offers(facts[:1]))
    assert await store.end_leases(world.rows.conn) == 0

    await store.bury(world.rows.conn, [worker], [1, 2, 3600])
    assert await store.end_leases(world.rows.conn) == 1

    rows = await world.pool.fetch(
        "select id, doubts, attempt, due > now() + interval '59 min', worker from job order by id"
    )
    assert [tuple(row.values()) for row in rows] == [(begun, 1, 1, True, None), (claimed, 0, 0, False, None)]


async def test_a_deferred_mail_comes_back_at_its_time_behind_first_attempts(world: World) -> None:
    await world.job()
    worker = await world.worker()
    (facts,) = await world.claim(worker)

    await store.settle_returned(world.rows.conn, worker, 0, [Returned(facts, 60, "451 later", 1)])

    row = await world.pool.fetchrow("select worker, prio, attempt, due > now() + interval '59 s', reason from job")
    assert row is not None
    assert tuple(row.values()) == (None, 5, 1, True, "451 later")


async def test_mail_that_comes_to_stand_before_what_was_claimed_is_found_by_the_sweep(world: World) -> None:
    claimed = await world.job("a@reader.test")
    worker = await world.worker()
    assert [facts.job_id for facts in await world.claim(worker)] == [claimed]
    earlier = await world.job("b@reader.test", due=datetime.now(UTC) - timedelta(days=300))

    await store.refresh_hints(world.rows.conn)

    assert [facts.job_id for facts in await store.claim(world.rows.conn, worker)] == [earlier]


async def test_a_released_mail_is_as_it_was(world: World) -> None:
    job = await world.job()
    worker = await world.worker()
    (facts,) = await world.claim(worker)
    await store.begin(world.rows.conn, worker, world.offers([facts]))

    assert await store.release(world.rows.conn, worker, [Released(facts)]) == {job}

    row = await world.pool.fetchrow("select worker, begun, attempt, doubts from job")
    assert row is not None
    assert tuple(row.values()) == (None, None, 0, 0)
    assert [facts.job_id for facts in await world.claim(worker)] == [job]


async def test_the_first_mail_on_a_stream_begins_the_round_of_who_had_no_row(world: World) -> None:
    await world.job()
    worker = await world.worker()
    (facts,) = await world.claim(worker)
    at = datetime.now(UTC)

    await store.settle_ended(world.rows.conn, worker, 0, [Ended(facts, "delivered", attempts=1, ended=at)])

    row = await world.pool.fetchrow("select state::text, first_sent, round_from, score from engagement")
    assert row is not None
    assert tuple(row.values()) == ("active", at, at, 0)


async def test_a_mail_in_doubt_that_a_person_has_read_or_confirmed_is_claimed_with_the_proof(world: World) -> None:
    read = await world.job("a@reader.test", doubts=1, attempt=1, due=datetime.now(UTC) + timedelta(hours=1))
    await world.job("b@reader.test", doubts=1, attempt=1, due=datetime.now(UTC) + timedelta(hours=1))
    confirmed = await world.job("c@reader.test", doubts=1, attempt=1)
    at = datetime.now(UTC)
    await world.pool.execute(
        "insert into proof (job_id, contact_id, stream_id, form_id, form_version, address, page, consent, asked,"
        " asked_agent, message_id, due, confirmed) values ($1, 1, 1, 1, 1, '', '', '', $2, '', '', $2, $2)",
        confirmed, at,
    )  # fmt: skip
    await world.pool.execute(
        "insert into pending (event_id, job_id, kind, link_id, at, method, agent, class)"
        " values (gen_random_uuid(), $1, 'open', $2, $3, 'GET', 'Firefox', 'human')",
        read, world.program.pixels[0], at,
    )  # fmt: skip

    assert await store.wake_proven(world.rows.conn) == 1

    found = await world.claim(await world.worker())
    assert {(facts.job_id, facts.proven) for facts in found} == {(read, at), (confirmed, at)}
