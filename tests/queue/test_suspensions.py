"""What is suspended does not begin, from the commit on and until it is lifted or lapses."""

from datetime import UTC, datetime, timedelta

import pytest

from mtad.queue import store, suspensions
from mtad.queue.suspensions import AUTOMATION, Kind
from tests.queue.world import World

LATER = datetime.now(UTC) + timedelta(hours=1)
LANE_KINDS: list[tuple[Kind, str]] = [
    ("lane", "default/mx.reader.test"),
    ("site", "mx.reader.test"),
    ("source", "default"),
]


async def begins(world: World) -> bool:
    """Whether a fresh job begins now."""
    worker = await world.worker()
    job = await world.job(f"{worker}@reader.test")
    claimed = await world.claim(worker)
    (answer,) = [
        wait for id_, wait in (await store.begin(world.rows.conn, worker, world.offers(claimed))).items() if id_ == job
    ]
    await store.release(world.rows.conn, worker, [store.Released(facts) for facts in claimed])
    return answer == 0


@pytest.mark.parametrize(("kind", "key"), LANE_KINDS)
@pytest.mark.parametrize("until", [LATER, None])
async def test_a_suspended_lane_begins_nothing_until_it_is_lifted(
    world: World, kind: Kind, key: str, until: datetime | None
) -> None:
    conn = world.rows.conn
    made = await suspensions.suspend(conn, kind, key, until=until, reason="asked to", by="ann")

    held = await begins(world)
    lifted = await suspensions.lift(conn, kind=kind, key=key, by="bob")

    assert not held
    assert lifted == [made]
    assert await begins(world)
    assert await suspensions.suspensions(conn) == []


async def test_a_lane_that_is_made_while_its_source_is_suspended_is_suspended(world: World) -> None:
    conn = world.rows.conn
    await suspensions.suspend(conn, "source", "default", until=LATER, reason="listed", by="ann")
    (site,) = (await store.sites_by_name(conn, {"mx.new.test": ["10 mx.new.test:25"]})).values()
    await store.lanes_of(conn, [store.Limit(site, 1, 1, 1)])

    assert await conn.fetchval("select suspended_until from lane where site_id = $1", site) == LATER


async def test_what_two_hands_hold_is_free_when_the_later_end_has_come(world: World) -> None:
    conn = world.rows.conn
    await suspensions.suspend(conn, "site", "mx.reader.test", until=LATER, reason="by hand", by="ann")
    mine = await suspensions.suspend(conn, "source", "default", until=None, reason="TSS05", by=AUTOMATION)
    await suspensions.lift(conn, id_=mine.id, by="ann")

    assert await conn.fetchval("select suspended_until from lane") == LATER


async def test_the_same_hand_only_prolongs(world: World) -> None:
    conn = world.rows.conn
    first = await suspensions.suspend(conn, "site", "mx.reader.test", until=LATER, reason="one", by="ann")
    again = await suspensions.suspend(
        conn, "site", "mx.reader.test", until=LATER - timedelta(minutes=5), reason="two", by="ann"
    )

    assert (again.id, again.until, again.reason) == (first.id, LATER, "two")


async def test_a_suspension_lapses_by_itself(world: World) -> None:
    conn = world.rows.conn
    await suspensions.suspend(
        conn, "site", "mx.reader.test", until=datetime.now(UTC) - timedelta(seconds=1), reason="over", by="ann"
    )

    assert await suspensions.suspensions(conn) == []
    assert await begins(world)
