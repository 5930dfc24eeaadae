"""What receivers say often enough, to all workers together, holds lanes back for a while."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from mtad.base.automation import Rule
from mtad.base.db import Pool
from mtad.outcome.automation import Automation, suspend_bouncing, sweep
from mtad.outcome.kinds import Deferred, Scope
from mtad.queue import limits, store, suspensions
from mtad.smtp.results import Refused, Stage
from tests.clock import ManualClock
from tests.queue.world import World, new_world

SLOW = Rule(name="slow", provider="yahoo", regex="TS03", threshold="3/h", max_message_rate="1/min",
            connection_limit=1, max_deliveries_per_connection=5, duration="30m")  # fmt: skip
STOP = Rule(name="stop", provider="yahoo", regex="TSS04", threshold="2/h", suspend="lane", duration="2h")
SOURCE = Rule(name="listed", regex="listed", threshold="1/h", suspend="source", duration="2h")
CAMPAIGN = Rule(name="spam", regex="spam", threshold="2/h", suspend="campaign", duration="5m")


@pytest.fixture
async def world(pool: Pool) -> AsyncIterator[World]:
    async with pool.acquire() as conn:
        yield await new_world(pool, conn)


def worker(world: World, number: int = 1) -> Automation:
    """The automation of one worker."""
    clock = ManualClock(datetime.now(UTC))
    return Automation(world.pool, clock, number, [SLOW, STOP, SOURCE, CAMPAIGN], lambda _hosts: "yahoo")


def hear(automation: Automation, world: World, text: str, times: int = 1) -> None:
    for _ in range(times):
        refused = Refused(Stage.MAIL, int(text[:3]), "", text, "mx.test")
        automation.heard(world.lane, "nudge", refused, Deferred(Scope.POLICY, "PolicyRelated", text))


async def held(world: World) -> list[tuple[str, str]]:
    return [(row.kind, row.key) for row in await suspensions.suspensions(world.rows.conn)]


async def test_a_threshold_is_counted_over_all_workers_and_then_anew(world: World) -> None:
    one, two = worker(world), worker(world)
    hear(one, world, "421 [TSS04]")
    await one.flush()
    before = await held(world)
    hear(two, world, "421 [TSS04]")
    await two.flush()
    (row,) = await suspensions.suspensions(world.rows.conn)
    until = await world.rows.conn.fetchval("select suspended_until from lane")
    hear(two, world, "421 [TSS04]")
    await two.flush()
    (after,) = await suspensions.suspensions(world.rows.conn)

    assert before == []
    assert (row.kind, row.key, row.made_by, row.reason) == (
        "lane", "default/mx.reader.test", "automation", "stop: 421 [TSS04]",
    )  # fmt: skip
    assert row.until == until
    assert after.until == until  # one reply more is below the threshold


async def test_what_was_said_longer_ago_than_the_threshold_reaches_does_not_count(world: World) -> None:
    automation = worker(world)
    hear(automation, world, "421 [TSS04]")
    await automation.flush()
    await world.pool.execute("update reply_count set at = at - interval '61 min'")
    hear(automation, world, "421 [TSS04]")
    await automation.flush()

    assert await held(world) == []


async def test_a_limit_is_in_the_lanes_row_for_all_workers_and_ends_by_itself(world: World) -> None:
    conn = world.rows.conn
    first, second = await world.worker(0), await world.worker(1)
    one, two = worker(world, first), worker(world, second)
    before = [await world.hold(first, 2), await world.hold(second, 2)]
    hear(one, world, "421 [TS03]", times=3)
    await one.flush()
    await two.flush()
    row = await conn.fetch("select most_rate, most_sessions from lane")
    kept = [one.limits(world.lane.id), two.limits(world.lane.id)]
    granted = [await world.hold(second, 8), await world.hold(first, 1)]
    await conn.execute("update lane_limit set until = now() - interval '1 s'")
    lapsed = await sweep(world.pool)
    await two.flush()

    assert [tuple(one) for one in row] == [(pytest.approx(1 / 60), 1)]
    assert before == [2, 2]
    assert kept == [limits.InForce(1, 5), limits.InForce(0, 5)]
    assert granted == [0, 1]
    assert lapsed == 3
    assert [tuple(one) for one in await conn.fetch("select most_rate, most_sessions from lane")] == [(None, None)]
    assert two.limits(world.lane.id) == limits.InForce()


async def test_a_limited_rate_is_what_begin_gives(world: World) -> None:
    conn, automation = world.rows.conn, worker(world)
    hear(automation, world, "421 [TS03]", times=3)
    await automation.flush()
    by = await world.worker()
    for number in range(3):
        await world.job(f"{number}@reader.test")
    answers = await store.begin(conn, by, world.offers(await world.claim(by)))

    assert sorted(wait for wait in answers.values() if wait is not None) == [
        0, pytest.approx(60, abs=1), pytest.approx(120, abs=1),
    ]  # fmt: skip


async def test_an_operator_undoes_a_limit(world: World) -> None:
    conn, automation = world.rows.conn, worker(world)
    hear(automation, world, "421 [TS03]", times=3)
    await automation.flush()
    made = await limits.limits(conn)

    assert {(one.lane, one.knob, one.value) for one in made} == {
        ("default/mx.reader.test", "max_message_rate", "1/min"),
        ("default/mx.reader.test", "connection_limit", "1"),
        ("default/mx.reader.test", "max_deliveries_per_connection", "5"),
    }
    assert sorted(await limits.undo(conn, [one.id for one in made])) == sorted(one.id for one in made)
    assert await conn.fetchval("select most_rate is null and most_sessions is null from lane")


async def test_a_source_and_a_campaign_are_held_everywhere(world: World) -> None:
    automation = worker(world)
    hear(automation, world, "554 you are listed")
    hear(automation, world, "554 spam", times=2)
    await automation.flush()

    assert sorted(await held(world)) == [("campaign", "nudge"), ("source", "default")]


async def test_nothing_heard_is_lost_while_the_database_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    automation = worker(world)
    hear(automation, world, "421 [TSS04]", times=2)

    async def away(*_: object) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as broken:
        broken.setattr("mtad.outcome.automation.in_transaction", away)
        with pytest.raises(ConnectionRefusedError):
            await automation.flush()
    await automation.flush()

    assert await held(world) == [("lane", "default/mx.reader.test")]


async def test_a_campaign_that_bounces_too_much_is_suspended_and_counts_anew_when_it_is_resumed(world: World) -> None:
    conn = world.rows.conn

    async def ended(delivered: int, bounced: int, *, slot: int = 0) -> list[tuple[str, str]]:
        """After so many more mails: what is held."""
        for key, n in (("delivered", delivered), ("bounced", bounced), ("skipped:paused", 500)):
            await conn.execute(
                "insert into tally (program_id, slot, key, n) select id, $1, $2, $3 from program "
                "on conflict (program_id, slot, key) do update set n = tally.n + excluded.n",
                slot, key, n,
            )  # fmt: skip
        await suspend_bouncing(world.pool, 0.1, 100)
        return await held(world)

    few = await ended(49, 50)
    many = await ended(851, 50, slot=1)  # just a tenth
    one_more = await ended(0, 1)
    (row,) = await suspensions.suspensions(conn)
    await suspensions.lift(conn, kind="campaign", key="nudge", by="ann")
    resumed = await ended(0, 99)
    await conn.execute("update bounce_mark set at = now() - interval '61 min'")
    next_hour = [await ended(0, 0), await ended(0, 99)]

    assert (few, many, one_more) == ([], [], [("campaign", "nudge")])
    assert (row.until, row.made_by, row.reason) == (None, "automation", "10.1% of 1,001 mails bounced within an hour")
    assert (resumed, next_hour) == ([], [[], []])
    await conn.execute("update program set class = 0")
    assert await ended(0, 5000) == []
    await conn.execute("update program set class = 2")
    assert await ended(0, 0) == [("campaign", "nudge")]
