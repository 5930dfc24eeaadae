"""What a tracking mode leaves of a hit: in the mail, and now."""

from datetime import timedelta

import msgspec
import pytest

from mtad.base.db import Pool, in_transaction
from mtad.base.ids import unix_ms_of
from tests.tracker.made import GMAIL, NOON, World, hit
from tracker import store
from tracker.hits import HYGIENE, Hit, Kind, Method
from tracker.service import ripen

pytestmark = pytest.mark.usefixtures("pool")


async def world_of(pool: Pool, stream: str, contact: str | None = None) -> World:
    world = await World(pool).seed(tracking=stream)
    await pool.execute("update subscription set tracking = $1::text::tracking_mode", contact)
    await world.ended(1)
    await world.worker(ingested_until=NOON + timedelta(days=30))
    return world


async def heard(pool: Pool, *hits: Hit) -> None:
    """Ingested twice, as after a crash, and judged."""
    for _ in range(2):
        await in_transaction(pool, lambda conn: store.ingest(conn, hits))
    await ripen(pool)
    assert await pool.fetchval("select count(*) from pending") == 0 or await pool.fetchval(
        "select bool_and(class is not null) from pending"
    )


async def left(pool: Pool) -> dict[str, object]:
    """What is left of all hits: events, counts, the day of the last open."""
    counts = await pool.fetch("select class::text, n from hit_count where link_id = any($1::int[])", [1, 2, 3, 4])
    return {
        "events": await pool.fetchval("select count(*) from event"),
        "counts": {row[0]: row[1] for row in counts},
        "day": await pool.fetchval("select last_open::text from subscription"),
    }


NOTHING = {"events": 0, "counts": {}, "day": None}


@pytest.mark.parametrize(
    ("stream", "contact", "expected"),
    [
        ("full", None, {"events": 1, "counts": {}, "day": None}),
        ("none", "full", {"events": 1, "counts": {}, "day": None}),
        ("full", "hygiene", {"events": 0, "counts": {"human": 1}, "day": "2025-06-02"}),
        ("hygiene", None, {"events": 0, "counts": {"human": 1}, "day": "2025-06-02"}),
        ("full", "aggregate", {"events": 0, "counts": {"human": 1}, "day": None}),
        ("full", "none", NOTHING),
        ("none", None, NOTHING),
    ],
)
async def test_of_an_open_of_a_mail_sent_in_full_the_mode_of_now_decides_what_is_kept(
    pool: Pool, stream: str, contact: str | None, expected: dict[str, object]
) -> None:
    await world_of(pool, stream, contact)
    await heard(pool, hit(Kind.OPEN))

    assert await left(pool) == expected


@pytest.mark.parametrize(("mode", "day"), [("full", "2025-06-02"), ("hygiene", "2025-06-02"), ("aggregate", None)])
async def test_no_later_consent_makes_more_of_a_mail_sent_in_hygiene(pool: Pool, mode: str, day: str | None) -> None:
    await world_of(pool, mode)
    await heard(pool, msgspec.structs.replace(hit(Kind.OPEN), how=HYGIENE))

    assert await left(pool) == {"events": 0, "counts": {"human": 1}, "day": day}


async def test_the_day_of_the_last_open_is_overwritten_and_never_goes_back(pool: Pool) -> None:
    await world_of(pool, "hygiene")
    for day in (3, 1, 2):
        await heard(pool, hit(Kind.OPEN, at=NOON + timedelta(days=day)))

    assert await pool.fetchval("select last_open::text from subscription") == "2025-06-05"


@pytest.mark.parametrize(
    "opened",
    [
        hit(Kind.OPEN, method=Method.HEAD),
        hit(Kind.OPEN, at=-1.0),  # before the 250
        hit(Kind.CLICK),
    ],
)
async def test_only_a_persons_open_of_what_arrived_has_a_day(pool: Pool, opened: Hit) -> None:
    await world_of(pool, "hygiene")
    await heard(pool, opened)

    assert await pool.fetchval("select last_open from subscription") is None
    assert await pool.fetchval("select count(*) from event") == 0


async def test_aggregate_hits_are_counted_by_link_hour_and_class_each_once(pool: Pool) -> None:
    await world_of(pool, "aggregate")
    hits = [hit(Kind.CLICK, job=0, link=2, at=60.0 * n) for n in range(90)]
    proxied = hit(Kind.OPEN, job=0, link=1, agent=GMAIL)
    await heard(pool, *hits, proxied)

    rows = await pool.fetch("select link_id, hour, class::text, n from hit_count order by link_id, hour")
    assert [tuple(row) for row in rows] == [
        (1, NOON, "proxy", 1),
        (2, NOON, "human", 60),
        (2, NOON + timedelta(hours=1), "human", 30),
    ]
    assert (await left(pool))["events"] == 0


@pytest.mark.parametrize(
    ("stream", "contact", "job", "hour"),
    [
        ("aggregate", None, 0, 12),
        ("aggregate", None, 1, 12),
        ("full", "aggregate", 1, 12),
        ("hygiene", None, 0, 0),
        ("hygiene", None, 1, 0),
        ("full", "hygiene", 0, 0),
    ],
)
async def test_nothing_that_is_kept_of_a_reduced_hit_says_more_of_its_time_than_its_mode_allows(
    pool: Pool, stream: str, contact: str | None, job: int, hour: int
) -> None:
    await world_of(pool, stream, contact)
    await heard(pool, hit(Kind.CLICK, job=job, link=2, at=754.0))

    at = NOON.replace(hour=hour)
    assert await pool.fetchval("select hour from hit_count") == at
    (told,) = [row[0] for row in await pool.fetch("select event_id from hit_counted")]
    assert unix_ms_of(told) == at.timestamp() * 1000


@pytest.mark.parametrize("method", list(Method)[:2])
async def test_nothing_is_kept_of_hits_on_the_mail_of_somebody_erased(pool: Pool, method: Method) -> None:
    await world_of(pool, "full")
    await pool.execute("update ledger set contact_id = null")
    await heard(pool, hit(Kind.OPEN, method=method), hit(Kind.CLICK, method=method))

    assert await left(pool) == NOTHING
