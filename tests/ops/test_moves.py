"""Mail follows its domain to another site: all of it, whatever workers do meanwhile."""

from collections.abc import Callable

import msgspec
import pytest

from mtad.base.db import Connection, Pool
from mtad.ops import sites
from mtad.ops.moves import GRACE, Movers
from mtad.queue import store
from mtad.queue.store import Label, Released
from mtad.wire.resolver import Site
from tests.ops.test_sites import Answers
from tests.queue.world import World, new_world


async def moved(pool: Pool, world: World, hosts: str = "mx.new.test") -> int:
    """The domain of the world's readers goes to another site; its id."""
    await pool.execute("update domain set resolve_at = now(), site_id = coalesce(site_id, $1)", world.site)
    await sites.resolve_domains(pool, Answers(reader=Site(hosts, [f"10 {hosts}:25"])).locator)
    site: int = await pool.fetchval("select id from site where name = $1", hosts)
    return site


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes every move so many seconds older than the database says."""
    moves_of = store.domain_moves

    def make(seconds: float) -> None:
        async def older(conn: Connection) -> list[store.Move]:
            return [msgspec.structs.replace(move, age=move.age + seconds) for move in await moves_of(conn)]

        monkeypatch.setattr(store, "domain_moves", older)

    return make


async def sites_of_jobs(pool: Pool) -> dict[int, int]:
    return {row[0]: row[1] for row in await pool.fetch("select id, site_id from job")}


async def test_waiting_paused_and_unlabelled_mail_follows_and_nothing_else_does(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        waiting = [await world.job(f"p{n}@reader.test") for n in range(3)]
        paused = await world.job("paused@reader.test", parked=True)
        unlabelled = await world.job("new@reader.test", site_id=None)
        other = await world.job("ann@other.test")
        rebound = await store.sites_by_name(conn, {"relay": ["0 relay:25"]})
        by_hand = await world.job("byhand@reader.test", site_id=rebound["relay"])
        new = await moved(pool, world)

        went = await Movers(pool).run()
        await sites.label_jobs(pool)
        claimed = await store.claim(conn, await world.worker())

    found = await sites_of_jobs(pool)
    assert went == 4
    assert {found[job] for job in [*waiting, paused, unlabelled]} == {new}
    assert (found[other], found[by_hand]) == (world.site, rebound["relay"])
    assert {facts.job_id for facts in claimed if facts.site_id == new} == {*waiting, unlabelled}


async def test_what_a_worker_holds_follows_when_it_gives_it_back(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        job = await world.job()
        worker = await world.worker()
        claimed = await world.claim(worker)
        new = await moved(pool, world)
        movers = Movers(pool)

        while_held = [await movers.run(), (await sites_of_jobs(pool))[job]]
        await store.release(conn, worker, [Released(facts) for facts in claimed])
        went = await movers.run()

    assert while_held == [0, world.site]
    assert (went, (await sites_of_jobs(pool))[job]) == (1, new)


async def test_a_move_is_over_when_nobody_can_still_queue_for_the_old_site(
    pool: Pool, later: Callable[[float], None]
) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        await world.job("ann@reader.test")
        new = await moved(pool, world)
        movers = Movers(pool)
        await movers.run()
        late = await world.job("bob@reader.test")  # by somebody who had read the old site

        later(GRACE - 10)
        early = await movers.run()
        later(GRACE)
        went = await movers.run()

    assert (early, went) == (0, 1)
    assert (await sites_of_jobs(pool))[late] == new
    assert await pool.fetchval("select count(*) from domain_move") == 0


async def test_a_move_waits_for_what_is_held_and_a_new_housekeeper_goes_on_with_it(
    pool: Pool, later: Callable[[float], None]
) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        job = await world.job()
        worker = await world.worker()
        claimed = await world.claim(worker)
        new = await moved(pool, world)
        movers = Movers(pool)
        await movers.run()
        later(GRACE)
        await movers.run()
        kept = await pool.fetchval("select count(*) from domain_move")

        await store.release(conn, worker, [Released(facts) for facts in claimed])
        await Movers(pool).run()

    assert kept == 1
    assert (await sites_of_jobs(pool))[job] == new
    assert await pool.fetchval("select count(*) from domain_move") == 0


async def test_mail_follows_over_two_moves_and_back(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        job = await world.job()
        await moved(pool, world, "one.test")
        two = await moved(pool, world, "two.test")
        movers = Movers(pool)
        await movers.run()
        there = (await sites_of_jobs(pool))[job]
        domain = await pool.fetchval("select id from domain where name = 'reader.test'")
        await store.label_domains(conn, [Label(domain, world.site, 60)])
        await movers.run()
        back = (await sites_of_jobs(pool))[job]

    assert (there, back) == (two, world.site)


async def test_a_large_domain_is_moved_page_by_page(pool: Pool) -> None:
    people = 12_000
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        await world.job()
        await conn.execute(
            "with c as (insert into contact (address, address_key, domain_id)"
            " select n, n, (select id from domain where name = 'reader.test') from generate_series(1, $2::int) n"
            " returning id)"
            " insert into job (contact_id, stream_id, program_id, version, message_id, site_id, class, prio, due,"
            " not_after) select id, 1, 1, 1, 1, $1, 2, 4, now(), now() from c", world.site, people,
        )  # fmt: skip
        new = await moved(pool, world)
        assert await Movers(pool).run() == people + 1

    assert set((await sites_of_jobs(pool)).values()) == {new}
