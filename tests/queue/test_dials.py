"""No more connections than a lane may open, on real Postgres."""

import asyncio

import pytest

from mtad.queue.dials import Dial, take_dials
from tests.queue.world import World


async def test_a_burst_may_be_opened_at_once_and_the_others_are_told_how_long_to_wait(world: World) -> None:
    dials = [Dial(world.lane.id, 1.0, 3.0)] * 5

    first = await take_dials(world.rows.conn, dials)
    second = await take_dials(world.rows.conn, dials[:1])

    assert first == pytest.approx([0, 0, 0, 1, 2], abs=0.1)
    assert second == pytest.approx([1], abs=0.2), "those that wait have taken nothing"


async def test_workers_that_ask_at_once_are_granted_one_burst_together(world: World) -> None:
    dial = Dial(world.lane.id, 0.01, 4.0)

    async def ask() -> list[float]:
        async with world.pool.acquire() as conn:
            return await take_dials(conn, [dial, dial])

    answers = await asyncio.gather(*(ask() for _ in range(5)))

    assert sum(wait == 0 for waits in answers for wait in waits) == 4


async def test_each_lane_has_its_own_and_the_answers_stand_in_the_order_of_the_wishes(world: World) -> None:
    (other,) = [row["id"] for row in await world.pool.fetch(
        "insert into site (name, hosts) values ('other', '{}') returning id")]  # fmt: skip
    lane = await world.pool.fetchval(
        "insert into lane (site_id, rate, burst, sessions) values ($1, 1, 1, 1) returning id", other
    )
    mine, its = Dial(world.lane.id, 1.0, 1.0), Dial(lane, 2.0, 1.0)

    waits = await take_dials(world.rows.conn, [its, mine, mine, its])

    assert waits == pytest.approx([0, 0, 1, 0.5], abs=0.1)


async def test_a_clock_that_was_wrong_keeps_nobody_from_dialling_for_longer_than_a_burst(world: World) -> None:
    await world.pool.execute("update lane set dial_tat = now() + interval '1 day'")

    (wait,) = await take_dials(world.rows.conn, [Dial(world.lane.id, 10.0, 20.0)])

    assert 0 < wait <= 2
