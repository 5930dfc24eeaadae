"""Verdicts are recomputed with all that is known in the end, and the engine hears of what changed."""

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from mtad.base.db import Connection, Pool, in_transaction
from tests.tracker.made import BROWSER, NOON, World, hit
from tests.tracker.mix import MixedMail, read_mix
from tests.tracker.test_classes import judged
from tests.tracker.test_tracker import until
from tracker import reclassify as module
from tracker import store
from tracker.hits import HitClass, Judgement, Kind
from tracker.networks import NOWHERE, Networks, parse_networks
from tracker.occurrences import Occurrence, offered_to_nobody
from tracker.ranges import Ranges
from tracker.service import Reclassified, reclassify, ripen, ripener
from tracker.views import follow, queue_views

SINCE, UNTIL = NOON - timedelta(days=1), NOON + timedelta(days=30)
GATEWAY = Networks(parse_networks("192.0.2.0/24 clicks Acme", "f", scoped=True))


class Engine:
    """Hears of whom something changed."""

    def __init__(self, base: datetime | None = None) -> None:
        self.told: list[tuple[int, int]] = []
        self._base = base

    async def retell(self, _conn: Connection, keys: Sequence[tuple[int, int]]) -> None:
        self.told += keys

    async def bases(self, _conn: Connection, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], datetime]:
        return dict.fromkeys(keys, self._base) if self._base else {}


async def again(pool: Pool, engine: Engine, networks: Networks = NOWHERE, *, dry_run: bool = False) -> Reclassified:
    return await reclassify(pool, networks, engine.retell, engine.bases, since=SINCE, until=UNTIL, dry_run=dry_run)


@pytest.fixture
async def world(pool: Pool) -> World:
    made = await World(pool).seed()
    await made.ended(1)
    await in_transaction(pool, lambda conn: store.ingest(conn, [hit(link=made.links[0]), hit(Kind.OPEN, at=50)]))
    await ripen(pool, _nobody)
    return made


async def _nobody(_conn: Connection, _signs: Sequence[store.Sign]) -> None:
    """Folds nothing."""


async def test_a_changed_file_of_networks_changes_verdicts_there_and_back(pool: Pool, world: World) -> None:
    engine = Engine()

    assert (await again(pool, engine)).changed == {}
    assert (await again(pool, engine, GATEWAY, dry_run=True)).changed == {"human → scanner": 1}
    assert await world.classes() == ["human", "human"]
    assert engine.told == []

    assert (await again(pool, engine, GATEWAY)).changed == {"human → scanner": 1}
    assert await world.classes() == ["human", "scanner"]
    assert await pool.fetchval("select data->'why' from event where class = 'scanner'") == ["network:Acme"]
    assert (await again(pool, engine, GATEWAY)).changed == {}
    assert (await again(pool, engine)).changed == {"scanner → human": 1}
    assert engine.told == [(world.stream, world.contact)] * 2
    assert await pool.fetchval("select count(*) from event where data ? 'why'") == 0


async def test_views_are_of_the_class_of_the_click_that_led_there_there_and_back(pool: Pool, world: World) -> None:
    """Two views by one click, and one that speaks against itself."""
    second = int((NOON + timedelta(seconds=60)).timestamp())
    asked = [(61, BROWSER), (99, BROWSER), (70, "curl/8")]
    views = [hit(Kind.PAGE, at=at, link=second, agent=agent) for at, agent in asked]
    await in_transaction(pool, lambda conn: queue_views(conn, views))
    offered: list[Occurrence] = []

    async def offer(_conn: Connection, occurrences: Sequence[Occurrence]) -> None:
        offered.extend(occurrences)

    async def seen() -> list[str]:
        return [row[0] for row in await pool.fetch("select data->>'class' from event where kind = 'page' order by at")]

    worker = await world.worker(ingested_until=NOON + timedelta(seconds=98))  # so it may hold what tells of the last
    await ripen(pool, _nobody, offer=offer)
    assert await seen() == ["human", "machine"]
    async with pool.acquire() as conn:
        await store.set_ingested_until(conn, worker, NOON + timedelta(seconds=99))
    await ripen(pool, _nobody, offer=offer)
    assert await seen() == ["human", "machine", "human"]
    assert len(offered) == 2

    other = await pool.fetchval("insert into stream (name, version) values ('other', 1) returning id")
    await pool.execute(
        "insert into engagement (stream_id, contact_id, since, round_from) values ($1, $2, $3, $3)",
        other, world.contact, NOON,
    )  # fmt: skip
    engine = Engine()
    await again(pool, engine, GATEWAY)
    assert await seen() == ["scanner", "machine", "scanner"]
    assert engine.told == [(world.stream, world.contact), (other, world.contact)]
    await again(pool, Engine())
    assert await seen() == ["human", "machine", "human"]

    async with pool.acquire() as conn, conn.transaction():
        ids = [row[0] for row in await conn.fetch("select id from event where kind = 'click'")]
        await store.void_visits(conn, ids)
        await follow(conn, ids)
    assert await seen() == ["scanner", "machine", "scanner"]


@pytest.mark.parametrize(("seconds", "too_old"), [(59, 0), (60, 1)])
async def test_what_is_too_old_to_change_anything_is_counted(
    pool: Pool, world: World, seconds: int, too_old: int
) -> None:
    """The click was a minute after noon."""
    engine = Engine(NOON + timedelta(seconds=seconds))

    for dry_run in (True, False):
        done = await again(pool, engine, GATEWAY, dry_run=dry_run)
        assert (done.changed, done.too_old) == ({"human → scanner": 1}, too_old)


async def test_what_is_not_kept_whole_keeps_its_verdict(pool: Pool, world: World) -> None:
    await pool.execute("update event set data = data - 'agent' - 'network'")

    assert (await again(pool, Engine(), GATEWAY)).hits == 0


async def reached(pool: Pool, count: int) -> tuple[World, list[int]]:
    """As many people, whose mails 1, 2, … had their 250 a second after each other."""
    world = await World(pool).seed()
    people = [world.contact]
    for n in range(1, count + 1):
        if n > 1:
            people.append(
                await pool.fetchval(
                    "insert into contact (address, address_key, domain_id) select $1, $1, 1 returning id", f"{n}@y.test"
                )
            )
        world.contact = people[-1]
        await world.ended(n, at=NOON + timedelta(seconds=n))
    return world, people


async def test_who_comes_like_another_is_judged_when_no_more_like_them_can_come(pool: Pool) -> None:
    world, _ = await reached(pool, 3)
    worker = await world.worker(ingested_until=NOON + timedelta(seconds=57))
    hits = [hit(job=1, at=43), hit(job=2, at=44), hit(job=3, at=51)]
    await in_transaction(pool, lambda conn: store.ingest(conn, hits))

    assert await ripen(pool, _nobody, ranges=(ranges := Ranges())) == 1
    assert await world.classes() == [None, None, "human"]
    async with pool.acquire() as conn:
        await store.set_ingested_until(conn, worker, NOON + timedelta(seconds=60))
    assert await ripen(pool, _nobody, ranges=ranges) == 2
    assert await world.classes() == ["human"] * 3


async def test_a_sweep_over_many_people_voids_those_who_were_judged_before_it_was_known(pool: Pool) -> None:
    world, people = await reached(pool, 5)
    engine, ranges = Engine(), Ranges()

    async def one(n: int) -> None:
        await in_transaction(pool, lambda conn: store.ingest(conn, [hit(job=n, at=40 + n, link=world.links[0])]))
        await ripen(pool, _nobody, retell=engine.retell, ranges=ranges)

    for n in range(1, 5):
        await one(n)
    assert await world.classes() == ["human"] * 4
    view = hit(Kind.PAGE, job=1, at=42, link=int((NOON + timedelta(seconds=41)).timestamp()))
    await in_transaction(pool, lambda conn: queue_views(conn, [view]))
    await ripen(pool, _nobody)
    await one(5)

    assert await world.classes() == ["scanner"] * 5
    assert await pool.fetchval("select data->>'class' from event where kind = 'page'") == "scanner"
    assert engine.told == [(world.stream, contact) for contact in people[:4]]


async def seeded(pool: Pool, mix: list[MixedMail]) -> World:
    """The mails of the mix as they stand in a database, each to a contact of its own."""
    world = await World(pool).seed()
    await pool.execute(
        "insert into contact (id, address, address_key, domain_id) overriding system value"
        " select n, n || '@y.test', n || '@y.test', 1 from generate_series(1000, $1::int) n",
        1000 + len(mix),
    )
    for links in {one.mail.links for one in mix}:
        await pool.execute(
            "insert into message (program_id, version, node, name, parts, pixel) values ($1, 2, $2, 'm', '{}', true)",
            world.program,
            str(links),
        )
    await pool.execute(
        "insert into message_link (message_id, position, url)"
        " select m.id, n, '' from message m, generate_series(1, m.node::int) n where m.version = 2"
    )
    await pool.executemany(
        "insert into ledger (job_id, program_id, stream_id, message_id, contact_id, outcome, reason, attempts,"
        " doubts, created, dot_at, ended) select $1, $2, $3, m.id, $4, 'delivered', '', 1, $5, $7, $6, $7"
        " from message m where m.version = 2 and m.node = $8",
        [
            (one.number, world.program, world.stream, 1000 + one.number, one.mail.doubts, one.mail.dot_at,
             one.mail.accepted_at, str(one.mail.links))
            for one in mix
        ],
    )  # fmt: skip
    return world


async def lived(pool: Pool, world: World, mix: list[MixedMail]) -> set[UUID]:
    """The hits come as time goes by, and are judged as soon as their settle window is over; those that were folded."""
    hits = sorted(
        (
            msgspec.structs.replace(made, job_id=0, contact_id=1000 + one.number, program_id=world.program)
            if made.kind is Kind.LOOK
            else made
            for one in mix
            for made in one.hits
        ),
        key=lambda made: made.at,
    )
    worker = await world.worker()
    folded: list[store.Sign] = []

    async def fold(_conn: Connection, signs: Sequence[store.Sign]) -> None:
        folded.extend(signs)

    sweep = ripener(pool, fold, Engine().retell, NOWHERE, offered_to_nobody)
    seconds = {math.ceil((made.at - NOON).total_seconds()) for made in hits}
    for second in sorted(seconds | {at + 5 for at in seconds}):
        now = NOON + timedelta(seconds=second)
        come = list(itertools.takewhile(lambda made, now=now: made.at <= now, hits))  # type: ignore[misc]
        del hits[: len(come)]
        async with pool.acquire() as conn, conn.transaction():
            await store.ingest(conn, come)
            await store.set_ingested_until(conn, worker, now)
        await sweep()
    assert not hits
    assert await pool.fetchval("select count(*) from pending") == 0
    return {sign.event_id for sign in folded}


async def classes(pool: Pool) -> dict[UUID, str]:
    return {row[0]: row[1] for row in await pool.fetch("select id, class::text from event where class is not null")}


async def test_the_mix_as_it_comes_in_counts_people_only_and_in_the_end_gets_the_classes_of_the_table(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix = read_mix()
    expected = {hit.event_id: judgement.class_.value for _, hit, _, judgement in judged(mix)}
    folded = await lived(pool, await seeded(pool, mix), mix)
    assert len(await classes(pool)) == len(expected)

    clicks = [(hit.event_id, said) for _, hit, said, _ in judged(mix) if hit.kind is Kind.CLICK]
    people = {event_id for event_id, said in clicks if said == "human"}
    others = {event_id for event_id, said in clicks if said != "human"}
    assert len(people - folded) <= 0.005 * len(people)
    assert len(others - folded) >= 0.95 * len(others)
    monkeypatch.setattr(module, "PAGE", 40)
    whole = store.judged_hits

    async def paged(conn: Connection, after: UUID, until: UUID) -> list[store.JudgedHit]:
        return (await whole(conn, after, until))[:40]

    monkeypatch.setattr(store, "judged_hits", paged)

    done = await again(pool, Engine())

    assert done.hits == len(expected)
    assert await classes(pool) == expected
    assert (await again(pool, Engine())).changed == {}


async def test_other_verdicts_wait_for_the_gate_before_they_touch_an_event(pool: Pool, world: World) -> None:
    """As an erasure has them; the other way round the two would wait for each other."""
    ids = [row[0] for row in await pool.fetch("select id from event where kind = 'click'")]
    changes: list[Callable[[Connection], Awaitable[object]]] = [
        lambda conn: store.void_visits(conn, ids),
        lambda conn: store.change_verdicts(conn, [(id_, Judgement(HitClass.SCANNER, ())) for id_ in ids]),
    ]
    for change in changes:
        async with pool.acquire() as erasing, erasing.transaction():
            await erasing.execute("select from gate for no key update")
            changing = asyncio.create_task(in_transaction(pool, change))
            await until(lambda: pool.fetchval("select count(*) > 0 from pg_locks where not granted"))
            await erasing.execute("select from event for update nowait")
        await changing
