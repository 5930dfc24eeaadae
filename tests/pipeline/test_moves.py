"""What waits goes out once: where nobody gave a hint of it, and when its domain moves meanwhile."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from engine.service import Catalogue
from mtad.base.clock import Clock, SystemClock
from mtad.base.config import Config, Shaping
from mtad.base.db import Connection, Pool
from mtad.ops import sites
from mtad.ops.housekeeper import Housekeeper, Sweep
from mtad.ops.locator import Locator
from mtad.ops.moves import Movers
from mtad.ops.probe import Probe
from mtad.pipeline import Pipeline
from mtad.queue import store
from mtad.queue.workers import Heart
from mtad.sweeps import sweeps
from mtad.wire.dns import Records
from mtad.wire.resolver import Resolver, Site
from mtad.wire.session import Dialer
from tests.clock import ManualClock
from tests.ops.test_sites import Answers
from tests.pipeline.office import HastyClock, PlainComposer, PlainDkim
from tests.queue.world import World, new_world
from tests.tracker.made import KEYS
from tests.wire.peer import Peer

CONFIG = Config(
    domain="example.com",
    shape=Shaping(max_message_rate="100000/s", connection_limit=20, max_deliveries_per_connection=1000),
)

PEOPLE = 3000

# A reader of reader.test and a mail for each.
READERS = """
with people as (
  insert into contact (address, address_key, domain_id)
  select 'p' || n || '@reader.test', 'p' || n || '@reader.test', $1 from generate_series(1, $2::int) n
  returning id
), gates as (
  insert into gate (contact_id) select id from people
), readers as (
  insert into subscription (stream_id, contact_id, status, basis, source, changed_by)
  select $3, id, 'subscribed', 'consent', 'fair', 'import' from people
)
insert into job (contact_id, stream_id, program_id, version, message_id, site_id, class, prio, due, not_after)
select id, $3, $4, 1, $5, $6, 2, 4, now(), now() + interval '1 day' from people
"""


async def no_dns(name: str, kind: str) -> Records:
    raise AssertionError(f"nobody should ask DNS for {kind} {name}")


async def with_mail(pool: Pool, conn: Connection, people: int, hosts: str) -> World:
    """A world in which so many mails for one domain wait at the site of these hosts."""
    world = await new_world(pool, conn)
    (site,) = (await store.sites_by_name(conn, {hosts: [f"0 {hosts}"]})).values()
    domain = await conn.fetchval(
        "insert into domain (name, site_id, resolve_at) values ('reader.test', $1, 'infinity') returning id", site
    )
    program = world.program
    await conn.execute(READERS, domain, people, program.stream, program.id, program.messages[0], site)
    await conn.execute("vacuum analyze job, contact")
    return world


def pipeline(pool: Pool, worker: int, slot: int, routed: list[str]) -> Pipeline:
    clock = HastyClock()
    dialer = Dialer("me.test", Resolver(clock, no_dns), clock, routed=routed)
    return Pipeline(
        config=CONFIG, pool=pool, clock=clock, worker=worker, slot=slot, catalogue=Catalogue(pool),
        composer=PlainComposer(), dkim=PlainDkim(), dialer=dialer, luck=lambda: 0.5,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def at_work(*pipelines: Pipeline) -> AsyncIterator[None]:
    """The pipelines run inside the block and are drained after it."""
    running = [asyncio.create_task(one.run()) for one in pipelines]
    try:
        yield
        for one in pipelines:
            one.drain()
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@contextlib.asynccontextmanager
async def sweeping(pool: Pool, *sweeps: Sweep, clock: Clock) -> AsyncIterator[None]:
    keeping = asyncio.create_task(Housekeeper(pool, clock, sweeps).run())
    try:
        yield
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def until_none(pool: Pool, query: str, *arguments: object) -> None:
    """Wait until the query finds no row."""
    while True:
        if await pool.fetchval(f"select exists ({query})", *arguments) is False:
            return
        await asyncio.sleep(0.02)


async def delivered(pool: Pool, number: int) -> None:
    await until_none(pool, "select count(*) from ledger where outcome = 'delivered' having count(*) < $1", number)


# Waiting mail that has not followed its domain.
LEFT_BEHIND = """
select from job where worker is null and site_id <> (select site_id from domain where name = 'reader.test') limit 1
"""


def recipients(*peers: Peer) -> Counter[str]:
    return Counter(line.partition("<")[2].partition(">")[0] for p in peers for line in p.commands if line[:4] == "RCPT")


async def moved_under_way(pool: Pool, people: int, say: Callable[[str], None] = lambda _: None) -> None:
    """Mail goes out by two workers; after a tenth of it the domain moves. All of it arrives, once."""

    async def refresh_hints() -> int:
        async with pool.acquire() as conn:
            await store.refresh_hints(conn)
        return 0

    async with Peer() as old, Peer() as new, pool.acquire() as conn:
        there, here = f"127.0.0.1:{old.port}", f"127.0.0.1:{new.port}"
        await with_mail(pool, conn, people, there)
        workers = [await store.register_worker(conn, "here", slot, 1) for slot in (0, 1)]
        pipelines = [pipeline(pool, worker, slot, [there, here]) for slot, worker in enumerate(workers)]
        work = [Sweep("refresh hints", 1.0, refresh_hints), Sweep("move jobs", 1.0, Movers(pool).run)]
        clock = SystemClock()
        began = clock.monotonic()
        async with at_work(*pipelines), sweeping(pool, *work, clock=HastyClock()):
            await delivered(pool, people // 10)
            await conn.execute("update domain set resolve_at = now()")
            await sites.resolve_domains(pool, Answers(reader=Site(here, [f"0 {here}"])).locator)
            at = clock.monotonic()
            await until_none(pool, LEFT_BEHIND)
            say(f"labelled anew within {clock.monotonic() - at:.2f} s")
            await delivered(pool, people)
            say(f"{people} mails delivered in {clock.monotonic() - began:.1f} s")
        heard = recipients(old, new)
        say(f"old site {len(old.messages)}, new site {len(new.messages)}, twice {sum(heard.values()) - len(heard)}")

        assert set(heard) == {f"p{n}@reader.test" for n in range(1, people + 1)}
        assert set(heard.values()) == {1}
        assert old.messages
        assert new.messages
        assert await conn.fetchval("select count(*) from job") == 0


async def test_all_mail_of_a_domain_that_moves_goes_out_and_none_twice(pool: Pool) -> None:
    await moved_under_way(pool, PEOPLE)


SILENCED = """
create function keep_hint() returns trigger language plpgsql as $$
begin
  if current_query() !~ 'heads' then  -- all but the housekeeper's, which looks at the due index
    new.ready_at := old.ready_at;
  end if;
  return new;
end $$;
create trigger silent before update on site for each row execute function keep_hint();
"""


async def test_what_nobody_gave_a_hint_of_goes_out_within_15_seconds(pool: Pool) -> None:
    async with Peer() as peer, pool.acquire() as conn:
        host = f"127.0.0.1:{peer.port}"
        world = await with_mail(pool, conn, 200, host)
        await conn.execute("update site set ready_at = 'infinity'")
        await conn.execute(SILENCED)
        await store.wake_sites(conn, [1, 2])
        worker = await world.worker()
        silent = await store.claim(conn, worker)
        clock = ManualClock(datetime(2026, 1, 2, tzinfo=UTC))
        heart = Heart(pool, clock, worker)
        catalogue = Catalogue(pool)
        resolver = Resolver(clock, no_dns)
        locator = Locator.from_config(CONFIG, resolver, clock)
        probe = Probe(pool, clock, KEYS, CONFIG.tracker_url, resolver)
        work = sweeps(CONFIG, pool, catalogue, locator, heart, probe)

        async with at_work(pipeline(pool, worker, 0, [host])), sweeping(pool, *work, clock=clock):
            waited = 0.0
            while waited < 15 and await pool.fetchval("select count(*) from job where worker is null") == 200:
                if len(clock._sleepers) > len(work):  # all rest, so only time can help
                    await clock.advance(0.5)
                    waited += 0.5
                await asyncio.sleep(0.01)
            assert waited < 15
            await delivered(pool, 200)

    assert silent == []
    assert recipients(peer) == Counter(f"p{n}@reader.test" for n in range(1, 201))
