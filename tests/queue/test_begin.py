"""What may go, goes: programs, tokens, and sessions that all workers share."""

import asyncio

import msgspec
import pytest

from mtad.base.db import Pool
from mtad.queue import store
from tests.queue.world import World, new_world, until_blocked


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


async def test_a_worker_leaves_a_lane_without_waiting_for_whoever_holds_it(world: World) -> None:
    one, two = await world.worker(0), await world.worker(1)
    assert await world.hold(one, 8, growing=True) == 8
    async with world.pool.acquire() as other, other.transaction():
        await other.execute("select from lane for no key update")
        await asyncio.wait_for(store.leave_lanes(world.rows.conn, one, [world.lane.id]), 30)

    assert await world.hold(two, 8, growing=True) == 8, "what was left can be had"


async def test_who_lacked_sessions_and_leaves_the_lane_lacks_none(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn, sessions=4)
        one, two = await world.worker(0), await world.worker(1)
        assert await world.hold(one, 4, growing=True) == 4
        assert await world.hold(two, 3) == 0
        await store.leave_lanes(conn, two, [world.lane.id])

        (grant,) = (await store.hold_sessions(conn, one, [store.Wish(world.lane.id, 4, 4)])).values()

    assert not grant.others_lack


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
