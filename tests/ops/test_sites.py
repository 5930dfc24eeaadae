"""Domains, the sites they belong to, and jobs whose domain nobody could tell the site of."""

import asyncio

from mtad.base.clock import SystemClock
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.ops import sites
from mtad.queue import store
from mtad.wire.dns import Unresolved
from mtad.wire.resolver import NoMail, Resolver, Site
from tests.queue.world import new_world
from tests.rows import Rows

CONFIG = Config(domain="example.com")


class Answers(Resolver):
    """DNS as the test says; for what it does not say there is no answer."""

    def __init__(self, **answers: Site | NoMail) -> None:
        super().__init__(SystemClock())
        self._answers = answers

    async def site_of(self, domain: str, config: Config) -> Site | NoMail:
        del config
        try:
            return self._answers[domain.partition(".")[0]]
        except KeyError:
            raise Unresolved(domain) from None


async def test_jobs_that_waited_for_their_domain_get_its_site_and_are_due(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        await conn.execute("update domain set site_id = null")
        await world.job("ann@reader.test", site_id=None)

    asked = await sites.resolve_domains(pool, Answers(reader=Site("mx.new", ["10 a,b:25", "20 c:25"])), CONFIG)

    row = await pool.fetchrow("select s.hosts, s.ready_at <= now() from job j join site s on s.id = j.site_id")
    assert asked == 1
    assert row is not None
    assert tuple(row.values()) == (["10 a,b:25", "20 c:25"], True)


async def test_sites_are_locked_in_order_of_id_like_everywhere(pool: Pool) -> None:
    async with pool.acquire() as holder, pool.acquire() as other:
        rows = Rows(holder)
        first = (await store.sites_by_name(holder, {"z": ["10 z:25"]}))["z"]
        second = (await store.sites_by_name(holder, {"a": ["10 a:25"]}))["a"]
        await rows.contact("ann@one.test")
        await rows.contact("ann@two.test")
        answers = Answers(one=Site("a", ["10 a:25"]), two=Site("z", ["10 z:25"]))
        async with holder.transaction():
            await holder.execute("select from site where id = $1 for update", first)
            resolving = asyncio.create_task(sites.resolve_domains(pool, answers, CONFIG))
            while not await other.fetchval("select count(*) from pg_locks where not granted"):
                pass
            async with other.transaction():
                await other.execute("select from site where id = $1 for update nowait", second)

        assert await resolving == 2


async def test_a_mail_whose_domain_never_resolves_ends_when_it_is_too_late(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        await conn.execute("update domain set site_id = null")
        late = await world.job("ann@reader.test", site_id=None)
        waiting = await world.job("bob@reader.test", site_id=None)
        await conn.execute("update job set not_after = now() - interval '1 hour' where id = $1", late)
        await sites.resolve_domains(pool, Answers(), CONFIG)
        assert await sites.label_jobs(pool) == 1

        claimed = await store.claim(conn, await world.worker(), [])

    assert [facts.job_id for facts in claimed] == [late]
    assert await pool.fetchval("select site_id is null from job where id = $1", waiting)


async def test_a_closed_site_stays_closed_when_more_mail_for_it_is_queued(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        await world.job()
        await store.close_lane(conn, world.lane.id, 60, "no connection")

        await store.wake_sites(conn, [world.site])

        assert await store.claim(conn, await world.worker(), []) == []
        await conn.execute("update lane set closed_until = '-infinity'")
        await store.wake_sites(conn, [world.site])
        assert len(await store.claim(conn, await world.worker(), [])) == 1
