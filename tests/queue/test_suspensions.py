"""What is suspended does not begin, from the commit on and until it is lifted or lapses."""

from datetime import UTC, datetime, timedelta

import pytest

from engine.facts import Defer
from engine.gate import Context, verdict
from engine.programs import Definition
from engine.service import Catalogue
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


@pytest.mark.parametrize(("kind", "key"), [("campaign", "nudge"), ("domain", "reader.test")])
@pytest.mark.parametrize("until", [LATER, None])
async def test_a_suspended_domain_or_campaign_begins_nothing_and_waits(
    world: World, kind: Kind, key: str, until: datetime | None
) -> None:
    conn, catalogue = world.rows.conn, Catalogue(world.pool)
    worker = await world.worker()
    await world.job()
    (facts,) = await world.claim(worker)
    await suspensions.suspend(conn, kind, key, until=until, reason="asked to", by="ann")
    await catalogue.need([], [], facts.epoch + 1)
    context = Context(
        Definition(name="nudge", kind="series", stream="sales", first="x", nodes={}),
        catalogue.suppressed_domains,
        catalogue.suspended,
    )

    assert await store.begin(conn, worker, world.offers([facts])) == {facts.job_id: None}
    assert verdict(facts, context, datetime.now(UTC)) == Defer(until or facts.not_after, f"suspended:{kind}")


@pytest.mark.parametrize(("kind", "key"), [("campaign", "nudge"), ("domain", "reader.test")])
async def test_what_waited_for_a_lift_is_due_at_once_and_nothing_else(world: World, kind: Kind, key: str) -> None:
    conn = world.rows.conn
    await suspensions.suspend(conn, kind, key, until=LATER, reason="asked to", by="ann")
    held = await world.job(due=LATER, reason=f"suspended:{kind}")
    other = await world.job("bob@reader.test", due=LATER, reason="451 later")
    await conn.execute("update domain set site_id = $1", world.site)
    await conn.execute("update site set ready_at = 'infinity'")
    await suspensions.lift(conn, kind=kind, key=key, by="ann")

    rows = await conn.fetch("select id from job where due <= now()")
    assert [row[0] for row in rows] == [held]
    assert other != held
    assert await conn.fetchval("select ready_at <= now() from site")


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


async def test_mail_grows_old_behind_a_suspended_lane_and_is_ended(world: World) -> None:
    conn = world.rows.conn
    old, young = await world.job(not_after=LATER - timedelta(hours=2)), await world.job("bob@reader.test")
    open_lane = await suspensions.expire_held(world.pool, "nowhere")
    await suspensions.suspend(conn, "site", "mx.reader.test", until=None, reason="by hand", by="ann")
    moved = await suspensions.expire_held(world.pool, "nowhere")
    rows = await conn.fetch("select j.id, s.name from job j join site s on s.id = j.site_id order by j.id")

    assert (open_lane, moved) == (0, 1)
    assert [tuple(row) for row in rows] == [(old, "nowhere"), (young, "mx.reader.test")]


async def test_a_suspension_lapses_by_itself(world: World) -> None:
    conn = world.rows.conn
    await suspensions.suspend(
        conn, "site", "mx.reader.test", until=datetime.now(UTC) - timedelta(seconds=1), reason="over", by="ann"
    )

    assert await suspensions.suspensions(conn) == []
    assert await begins(world)
