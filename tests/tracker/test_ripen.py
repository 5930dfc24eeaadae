"""Hits become people's or machines', once, and not before all of them are in."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from mtad.base.db import Connection, Pool, in_transaction
from tests.tracker.made import BROWSER, NOON, World, hit, unsubscribe
from tracker import store
from tracker.hits import Hit, Kind, Method
from tracker.occurrences import Occurrence
from tracker.ripening import FOLDED
from tracker.service import RIPE_BATCH, Fold, ripen
from tracker.views import queue_views

LATER = NOON + timedelta(minutes=10)


async def ingest(pool: Pool, *hits: Hit) -> int:
    return await in_transaction(pool, lambda conn: store.ingest(conn, hits))


def folding(into: list[store.Sign]) -> Fold:
    """A fold that keeps what it is given."""

    async def fold(_conn: Connection, signs: Sequence[store.Sign]) -> None:
        into.extend(signs)

    return fold


@pytest.fixture
async def world(pool: Pool) -> World:
    made = await World(pool).seed()
    await made.ended(1)
    return made


async def test_a_persons_click_is_left_for_the_fold(pool: Pool, world: World) -> None:
    await ingest(pool, hit(link=world.links[0]))

    assert await ripen(pool) == 1
    assert await world.classes() == ["human"]
    assert await world.earning() == ["human"]
    row = await pool.fetchrow("select contact_id, stream_id, job_id, link_id from event")
    assert tuple(row or ()) == (world.contact, world.stream, 1, world.links[0])


@pytest.mark.parametrize("network", ["192.0.2.0/24", None])
@pytest.mark.parametrize(("at", "reasons"), [(60.0, {}), (-1.0, {"why": ["before_250"]})])
async def test_an_event_says_what_is_known_of_its_request_and_nothing_else(
    pool: Pool, world: World, network: str | None, at: float, reasons: dict[str, list[str]]
) -> None:
    await ingest(pool, hit(at=at, network=network))
    await ripen(pool)

    known = {"network": network} if network else {}
    assert await pool.fetchval("select data from event") == {"method": "GET", "agent": BROWSER, **known, **reasons}


async def test_a_replayed_hit_changes_nothing_before_or_after_it_was_judged(pool: Pool, world: World) -> None:
    hits = [hit(link=world.links[0]), hit(Kind.OPEN, at=90, agent="curl/8")]

    assert await ingest(pool, *hits) == 2
    assert await ingest(pool, *hits) == 0
    assert await world.classes() == [None, "machine"]
    folded: list[store.Sign] = []
    assert await ripen(pool, folding(folded)) == 1
    await ingest(pool, *hits)
    await ripen(pool, folding(folded))
    assert await world.earning() == []
    assert await world.classes() == ["human", "machine"]
    assert [one.event_id for one in folded] == [hits[0].event_id]


async def test_a_persons_hit_is_folded_in_the_transaction_that_judges_it(pool: Pool, world: World) -> None:
    await ingest(pool, hit(), hit(at=-1))

    async def fails(_conn: Connection, _signs: Sequence[store.Sign]) -> None:
        raise RuntimeError("no fold")

    with pytest.raises(RuntimeError):
        await ripen(pool, fails)
    assert await world.classes() == [None, None]
    before = FOLDED._sum.get()
    folded: list[store.Sign] = []
    assert await ripen(pool, folding(folded)) == 2
    since = (datetime.now(UTC) - folded[0].at).total_seconds()
    assert FOLDED._sum.get() - before == pytest.approx(since, abs=120), "of one fold, and not of that which failed"
    assert [one.job_id for one in folded] == [1]
    assert await world.earning() == []


@pytest.mark.parametrize(
    "made",
    [hit(method=Method.HEAD), hit(method=Method.PREFETCH), hit(agent=""), hit(Kind.OPEN, agent="Mozilla/5.0")],
    ids=["HEAD", "prefetch", "no agent", "Apple"],
)
async def test_what_is_certain_never_waits_in_pending(pool: Pool, world: World, made: Hit) -> None:
    await ingest(pool, made)

    assert await world.earning() == []
    assert await world.classes() in (["machine"], ["veiled"])
    assert await pool.fetchval("select data ? 'why' from event")


async def test_hits_before_the_250_and_bursts_earn_nothing(pool: Pool, world: World) -> None:
    early = [hit(at=-3), hit(at=-1)]
    burst = [hit(link=link, at=60 + n / 10) for n, link in enumerate(world.links)]
    pixel = hit(Kind.OPEN, link=world.pixel, at=60.5)
    person = hit(link=world.links[1], at=70)
    await ingest(pool, *early, *burst, pixel, person)

    assert await ripen(pool) == 7
    assert await world.classes() == ["machine", "scanner", *["scanner"] * 4, "human"]
    assert await world.earning() == ["human"]


async def test_a_look_at_the_unsubscribe_page_counts_towards_a_burst(pool: Pool, world: World) -> None:
    look = unsubscribe(world.contact, world.program, kind=Kind.LOOK, at=60.2)
    await ingest(pool, look, *[hit(link=link) for link in world.links[:2]])

    await ripen(pool)

    assert await world.classes() == ["scanner", "scanner"]


async def test_heads_judged_at_once_still_betray_the_gets_beside_them(pool: Pool, world: World) -> None:
    heads = [hit(link=link, method=Method.HEAD) for link in world.links[:2]]
    await ingest(pool, *heads, hit(link=world.links[2], at=60.5))

    await ripen(pool)

    assert await world.classes() == ["machine", "machine", "scanner"]
    assert await world.earning() == []


async def test_nothing_is_judged_before_the_settle_window_is_over(pool: Pool, world: World) -> None:
    now = await pool.fetchval("select now()")
    await world.ended(2, at=now - timedelta(minutes=1))
    await ingest(pool, hit(job=2, at=now - timedelta(seconds=30)), hit(job=2, at=now), hit(at=60))

    assert await ripen(pool) == 1
    assert await world.earning() == ["human", None, None]


async def test_a_reader_who_never_stops_is_judged_after_twelve_windows(pool: Pool, world: World) -> None:
    now = await pool.fetchval("select now()")
    await world.ended(2, at=now - timedelta(minutes=5))
    await ingest(pool, *[hit(Kind.OPEN, job=2, at=now - timedelta(seconds=4 * n)) for n in range(15)])

    assert await ripen(pool) == 0  # the oldest is 56 s old, a window is 5 s
    await ingest(pool, hit(Kind.OPEN, job=2, at=now - timedelta(seconds=60)))
    assert await ripen(pool) == 14
    assert await world.earning() == [*["human"] * 14, None, None]


async def test_what_is_judged_early_is_seen_beside_what_is_not(pool: Pool, world: World) -> None:
    now = await pool.fetchval("select now()")
    await world.ended(2, at=now - timedelta(minutes=5))
    burst = [hit(job=2, link=link, at=now - timedelta(seconds=5 - n / 4)) for n, link in enumerate(world.links)]
    await ingest(pool, hit(job=2, at=now - timedelta(seconds=70)), *burst)

    assert await ripen(pool) == 2
    assert await world.classes() == ["human", "scanner", None, None]


async def test_nothing_is_judged_while_a_live_worker_may_hold_a_hit(pool: Pool, world: World) -> None:
    slow = await world.worker(ingested_until=NOON + timedelta(seconds=64))
    await world.worker(ingested_until=LATER)
    await ingest(pool, hit(at=60))

    assert await ripen(pool) == 0
    async with pool.acquire() as conn:
        await store.set_ingested_until(conn, slow, NOON + timedelta(seconds=65))
    assert await ripen(pool) == 1


@pytest.mark.parametrize(("seconds", "judged"), [(60, 0), (180, 1)])
async def test_what_the_dead_left_unread_is_waited_for_two_minutes(
    pool: Pool, world: World, seconds: int, judged: int
) -> None:
    dead = await world.worker(ingested_until=NOON)
    await pool.execute(
        "update worker set started = $2, dead = now() - make_interval(secs => $3) where id = $1", dead, NOON, seconds
    )
    await ingest(pool, hit())

    assert await ripen(pool) == judged


async def test_a_page_view_waits_for_a_click_that_may_lie_with_the_dead_and_no_other_view_does(
    pool: Pool, world: World
) -> None:
    """Not two minutes: a view without its click is taken for a person's, and that is offered to the engine at once."""
    offered: list[Occurrence] = []

    async def offer(_conn: Connection, occurrences: Sequence[Occurrence]) -> None:
        offered.extend(occurrences)

    dead = await world.worker(ingested_until=NOON)
    await pool.execute(
        "update worker set started = $2, dead = now() - interval '1 h' where id = $1", dead, NOON - timedelta(hours=1)
    )
    await pool.execute("update ledger set ended = ended - interval '1 h'")
    known, unread = hit(at=60), hit(at=90, method=Method.PREFETCH)
    views = [
        msgspec.structs.replace(hit(Kind.PAGE, at=at + 1, link=int(NOON.timestamp()) + at), how=f"https://a.test/{at}")
        for at in (-60, 60, 90)
    ]
    await ingest(pool, known)
    await in_transaction(pool, lambda conn: queue_views(conn, views))

    for _ in range(2):
        await ripen(pool, offer=offer)
        assert [one.properties["url"][-4:] for one in offered] == ["/-60", "t/60"], (
            "the first is of a time that was read"
        )
    await ingest(pool, unread)
    await ripen(pool, offer=offer)

    assert len(offered) == 2
    classes = await pool.fetch("select data->>'class' from event where kind = 'page' order by at")
    assert [row[0] for row in classes] == ["human", "human", "machine"]


async def test_a_burst_that_lies_half_with_the_dead_is_judged_when_another_has_read_it(
    pool: Pool, world: World
) -> None:
    dead = await world.worker(ingested_until=NOON)
    await pool.execute("update worker set started = $2, dead = now() where id = $1", dead, NOON)
    burst = [hit(link=link, at=60 + n / 10) for n, link in enumerate(world.links)]
    await ingest(pool, *burst[:2])
    assert await ripen(pool) == 0

    await ingest(pool, *burst[2:])
    await world.worker(ingested_until=datetime.now(UTC) + timedelta(seconds=1))  # lives on the same host

    assert await ripen(pool) == 3
    assert await world.classes() == ["scanner"] * 3


async def test_a_mail_that_is_being_sent_waits_for_its_250(pool: Pool, world: World) -> None:
    await world.queued(2, begun=True)
    await ingest(pool, hit(job=2))

    assert await ripen(pool) == 0
    await world.ended(2)
    assert await ripen(pool) == 1
    assert await world.earning() == ["human"]


async def test_a_persons_hit_on_a_mail_in_doubt_stays_as_proof_of_delivery(pool: Pool, world: World) -> None:
    await world.queued(2, doubts=1)
    await ingest(pool, hit(job=2, at=10), *[hit(job=2, at=60, link=link) for link in world.links])

    assert await ripen(pool) == 4
    assert await world.classes() == ["human", "scanner", "scanner", "scanner"]
    assert await world.earning() == ["human"]


async def test_a_mail_that_was_never_sent_has_only_machines(pool: Pool, world: World) -> None:
    await world.queued(2)
    await ingest(pool, hit(job=2))

    assert await ripen(pool) == 1
    assert await world.classes() == ["machine"]


@pytest.mark.parametrize(("outcome", "expected"), [("bounced", "scanner"), ("skipped", "scanner")])
async def test_a_mail_that_never_arrived_has_no_readers(pool: Pool, world: World, outcome: str, expected: str) -> None:
    await world.ended(2, outcome=outcome)
    await ingest(pool, hit(job=2))

    await ripen(pool)

    assert await world.classes() == [expected]
    assert await world.earning() == []


async def test_a_hit_on_a_mail_that_nobody_remembers_is_kept_and_earns_nothing(pool: Pool, world: World) -> None:
    await ingest(pool, hit(job=999))

    assert await ripen(pool) == 0
    assert await world.earning() == []
    assert await world.classes() == [None]
    assert await pool.fetchval("select count(*) from event where contact_id is null") == 1


async def test_a_hit_on_a_mail_that_is_forgotten_meanwhile_does_not_stay(pool: Pool, world: World) -> None:
    await ingest(pool, hit())
    await pool.execute("delete from ledger")

    assert await ripen(pool) == 0
    assert await world.earning() == []
    assert await world.classes() == [None]


async def test_a_link_hit_without_end_is_judged_piece_by_piece(pool: Pool, world: World) -> None:
    await ingest(pool, *[hit(at=60 + n * 2) for n in range(5001)])

    assert await ripen(pool) == 5001
    assert await world.earning() == ["human"] * 5001
    assert await pool.fetchval("select count(distinct xmin::text) from event") == 2  # transactions


async def test_two_sweeps_at_once_judge_each_hit_once(pool: Pool, world: World) -> None:
    for job in range(2, 40):
        await world.ended(job)
    await ingest(pool, *[hit(job=job, at=60 + n) for job in range(1, 40) for n in range(3)])

    judged = await asyncio.gather(ripen(pool), ripen(pool))

    assert sum(judged) == 117
    assert await world.earning() == ["human"] * 117


async def test_more_hits_than_a_batch_are_all_judged_and_those_that_wait_hold_up_nobody(
    pool: Pool, world: World
) -> None:
    sent = range(2, RIPE_BATCH + 3)
    for job in sent:
        await world.queued(job, begun=True)
    await ingest(pool, *[hit(job=job) for job in sent], *[hit(at=70 + 2 * n) for n in range(RIPE_BATCH + 1)])

    assert await ripen(pool) == RIPE_BATCH + 1
    assert await world.earning() == [*[None] * len(sent), *["human"] * (RIPE_BATCH + 1)]


async def test_the_watermark_never_moves_back(pool: Pool, world: World) -> None:
    worker = await world.worker(ingested_until=LATER)
    async with pool.acquire() as conn:
        await store.set_ingested_until(conn, worker, NOON)

    until: datetime = await pool.fetchval("select ingested_until from worker where id = $1", worker)
    assert until == LATER
