"""What holds for all sites of a provider together, over all workers."""

import asyncio
from datetime import UTC, datetime

import pytest

from mtad.base.clock import SystemClock
from mtad.base.shape import Provider, Shaping
from mtad.pipeline import lane
from mtad.pipeline import providers as module
from mtad.pipeline.providers import TIGHT_FOR, Providers
from mtad.queue import providers, store
from mtad.queue.providers import Hold, Pace
from tests.clock import ManualClock
from tests.pipeline.place import COLD, WARM, Place
from tests.pipeline.receiver import Receiver
from tests.queue.world import World

KEY = ("warm", "big")


async def hold(world: World, worker: int, wanted: int, running: int = 0) -> int:
    async with world.pool.acquire() as conn, conn.transaction():
        await providers.know(conn, [KEY])
        (now,) = await providers.hold(conn, worker, [Hold(*KEY, wanted, running, 5)])
        return now


async def test_all_workers_together_hold_no_more_sessions_than_a_provider_may_have(world: World) -> None:
    one, two = await world.worker(0), await world.worker(1)

    assert await hold(world, one, 3) == 3
    assert await hold(world, two, 4) == 2
    assert await hold(world, one, 2, 2) == 2
    assert await hold(world, two, 4, 2) == 3
    await world.pool.execute("update worker set dead = now() where id = $1", one)
    assert await hold(world, two, 9, 3) == 5
    assert await world.pool.fetchval("select count(*) from provider_session") == 1


async def test_only_for_another_lane_that_waits_is_a_session_given_up(world: World) -> None:
    """One that gave its own up because it wants more sent 120 mails in 13.5 s, not 0.5."""
    clock = ManualClock(datetime(2026, 12, 1, tzinfo=UTC))
    all_of_them = Providers(world.pool, clock, await world.worker())
    running = asyncio.create_task(all_of_them.run_sessions())
    near, far, idle = 1, 2, 3

    granted = [await all_of_them.take(KEY, 2, 3, near)]
    alone = [all_of_them.is_tight(KEY, lane) for lane in (near, idle)]
    granted.append(await all_of_them.take(KEY, 2, 1, far))
    both = [all_of_them.is_tight(KEY, lane) for lane in (near, far, idle)]
    await clock.advance(TIGHT_FOR)
    running.cancel()

    assert granted == [2, 0]
    assert (alone, both) == ([False, True], [True, True, True])
    assert not all_of_them.is_tight(KEY, idle)


async def test_a_place_that_is_freed_goes_to_the_first_other_lane_in_line(world: World) -> None:
    clock = ManualClock(datetime(2026, 12, 1, tzinfo=UTC))
    all_of_them = Providers(world.pool, clock, await world.worker())
    running = asyncio.create_task(all_of_them.run_sessions())
    lanes = [await all_of_them.take(KEY, 2, 3, lane) for lane in (1, 2)]
    line = [asyncio.create_task(all_of_them.stand_in_line(KEY, 2, lane)) for lane in (1, 2, 3)]
    await asyncio.sleep(0)

    handed = [all_of_them.hand_on(KEY, 1)]
    await all_of_them.give_back(KEY, 2, 1)
    handed += [line[0].done() or await line[0], await line[1]]
    all_of_them.close_line()
    closed = [await line[2], await all_of_them.stand_in_line(KEY, 2, 4)]
    held = await world.pool.fetchval("select sum(sessions) from provider_session")
    running.cancel()

    assert lanes == [2, 0]
    assert handed == [True, True, True], "the first was not in its own way"
    assert closed == [False, False]
    assert held == 2, "what is handed on is still held"
    assert not all_of_them.hand_on(KEY)


async def test_mails_to_a_provider_take_turns_for_its_tokens(world: World) -> None:
    pace, other = Pace(*KEY, 10.0, 4.0), Pace("cold", "big", 10.0, 1.0)
    conn = world.rows.conn
    await providers.know(conn, [KEY, ("cold", "big")])

    first = await providers.take_paces(conn, [pace, other, pace, pace, pace])
    second = await providers.take_paces(conn, [pace])

    assert first == pytest.approx([0, 0, 0, 0, 0.1], abs=0.05), "one of the burst is kept in reserve"
    assert second == pytest.approx([0.1], abs=0.1), "who waits has taken nothing"


async def test_a_provider_whose_row_was_never_committed_is_written_down_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace(*KEY, 10.0, 4.0)
    all_of_them = Providers(world.pool, SystemClock(), await world.worker())
    running = asyncio.create_task(all_of_them.run_paces())

    async def broken(*_: object) -> list[float]:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(providers, "take_paces", broken)
        away = await all_of_them.pace(pace)
    back = await asyncio.wait_for(all_of_them.pace(pace), 30)
    running.cancel()

    assert (away, back) == (module.AGAIN, 0)


async def two_sites(place: Place, other: Receiver, number: int) -> None:
    """As many mails for each of two sites of one provider, whose hosts end in .0.0.1."""
    await place.queue(number)
    name = f"127.0.0.1:{other.port}"
    site = (await store.sites_by_name(place.world.rows.conn, {name: [f"0 {name}"]}))[name]
    for n in range(number):
        await place.world.job(f"q{n}@other.test", site_id=site)
    place.routed.append(name)


async def test_a_limit_of_sessions_holds_over_the_sites_of_a_provider_and_all_its_mail_goes(
    world: World, receiver: Receiver
) -> None:
    shape = Shaping(provider={"big": Provider(mx_suffix=(".0.0.1",), provider_connection_limit=3)})
    async with Receiver() as other:
        place = Place(world, receiver, WARM, shape=shape)
        await two_sites(place, other, 60)
        open_, most = receiver.open, 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, open_["127.0.0.2"] + other.open["127.0.0.2"])
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        async with place.workers(2):
            await place.until_delivered(120)
        watching.cancel()

    assert most == 3
    assert await world.pool.fetchval("select sum(sessions) from provider_session") == 0


async def test_the_sites_of_a_provider_take_turns_for_its_sessions_and_leave_no_place_empty_meanwhile(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rests once it has sent a session full: what goes on goes on by the second."""
    monkeypatch.setattr(lane, "SHUT_FOR", 3600.0)
    monkeypatch.setattr(module, "IN_LINE_FOR", 3600.0)
    big = Provider(mx_suffix=(".0.0.1",), provider_connection_limit=1, max_deliveries_per_connection=30)
    async with Receiver() as other:
        place = Place(world, receiver, WARM, shape=Shaping(provider={"big": big}))
        await two_sites(place, other, 90)

        async with place.workers():
            await place.until("select count(*) >= 120 from ledger")

    assert 30 <= min(receiver.mails["127.0.0.2"], other.mails["127.0.0.2"]) < 90


async def test_a_lane_that_is_closed_keeps_no_session_of_the_provider_from_others(
    world: World, receiver: Receiver
) -> None:
    shape = Shaping(provider={"big": Provider(mx_suffix=(".0.0.1",), provider_connection_limit=1)})
    async with Receiver() as other:
        place = Place(world, receiver, WARM, shape=shape)
        await two_sites(place, other, 5)
        limit = store.Limit(place.site, 100, 100, 10, "warm", "big")
        (lane,) = await store.lanes_of(world.rows.conn, [limit])
        await store.close_lane(world.rows.conn, lane.id, 600, "no answer")
        await world.rows.conn.execute("update site set ready_at = now()")  # as if its claims had just been made

        async with place.workers():
            await place.until_delivered(5)

    assert receiver.mails == {}


async def test_a_rate_holds_over_the_sites_of_a_provider_and_from_each_source_for_itself(
    world: World, receiver: Receiver
) -> None:
    slow = Provider(mx_suffix=(".0.0.1",), provider_message_rate="4/h,max_burst=4")
    async with Receiver() as other:
        place = Place(world, receiver, WARM, COLD, shape=Shaping(provider={"big": slow}))
        await two_sites(place, other, 20)

        async with place.workers(2):
            await place.until("select count(*) = 6 from ledger")
            await place.until("select not exists (select from job where worker is not null)")

    assert await place.sent_by() == {"warm": 3, "cold": 3}
    assert await world.pool.fetchval("select count(*) from job where attempt = 0") == 34
