"""Domains, the sites they belong to, and jobs whose domain nobody could tell the site of."""

import asyncio
from typing import Any

import msgspec
import pytest

from mtad.base.clock import SystemClock
from mtad.base.config import Config, Route
from mtad.base.db import Pool
from mtad.base.shape import Layer, Shaping
from mtad.ops import sites
from mtad.ops.locator import Barred, Located, Locator
from mtad.queue import store
from mtad.wire.dns import Records, Unresolved
from mtad.wire.policy import Policy
from mtad.wire.resolver import NoMail, Resolver, Site
from tests.queue.world import new_world
from tests.rows import Rows

CONFIG = Config(domain="example.com")


class Answers(Resolver):
    """DNS as the test says; for what it does not say there is no answer."""

    def __init__(self, **answers: Site | NoMail) -> None:
        super().__init__(SystemClock())
        self._answers = answers
        self.hanging = asyncio.Event()  # what asks for `slow` waits until this is set

    async def site_of(self, domain: str, config: Config) -> Site | NoMail:
        del config
        name = domain.partition(".")[0]
        if name == "slow":
            await self.hanging.wait()
        try:
            return self._answers[name]
        except KeyError:
            raise Unresolved(domain) from None

    async def records(self, name: str, kind: str) -> Records:
        raise Unresolved(f"{kind} {name}")

    @property
    def locator(self) -> Locator:
        return Locator.from_config(CONFIG, self, SystemClock())


async def test_jobs_that_waited_for_their_domain_get_its_site_and_are_due(pool: Pool) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        await conn.execute("update domain set site_id = null")
        await world.job("ann@reader.test", site_id=None)

    asked = await sites.resolve_domains(pool, Answers(reader=Site("mx.new", ["10 a,b:25", "20 c:25"])).locator)

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
            resolving = asyncio.create_task(sites.resolve_domains(pool, answers.locator))
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
        await sites.resolve_domains(pool, Answers().locator)
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


@pytest.mark.parametrize(
    ("site", "changed", "again"),
    [
        ("mx.test", {}, False),
        ("mx.test", {"route": (Route(domain="Reader.test", host="relay"),)}, True),
        ("mx.test", {"route": (Route(domain="*", host="relay"),)}, True),
        ("mx.test", {"route": (Route(domain="other.test", host="relay"),)}, False),
        ("mx.test", {"shape": Shaping(domain={"reader.test": Layer()})}, True),
        ("relay:25", {}, True),
        ("[::1]:25", {}, True),
        ("relay:25", {"route": (Route(domain="reader.test", host="relay"), Route(domain="*", host="r2"))}, False),
        ("relay:25", {"route": (Route(domain="reader.test", host="relay", port=26),)}, True),
        ("reader.test via mx.test", {}, True),
        ("reader.test via relay:25", {"shape": Shaping(domain={"reader.test": Layer()})}, True),
        ("a.mx.test,+21:0123456789012345", {}, False),
        ("reader.test: the domain reader.test says that it takes no mail (null MX)", {}, False),
    ],
)
async def test_a_domain_is_asked_for_again_when_the_configuration_sends_its_mail_elsewhere(
    pool: Pool, site: str, changed: dict[str, Any], again: bool
) -> None:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        await world.rows.contact("ann@reader.test")
        (id_,) = (await store.sites_by_name(conn, {site: ["10 x:25"]})).values()
        await conn.execute("update domain set site_id = $1, resolve_at = 'infinity'", id_)

    await sites.follow_configuration(pool, msgspec.structs.replace(CONFIG, **changed))

    assert await pool.fetchval("select resolve_at <= now() from domain") is again


ABSENT = NoMail("the domain reader.test does not exist", absent=True)
SITE = Site("mx.test", ["10 mx.test:25"], ttl=1200)


async def ask(pool: Pool, answer: Site | NoMail | None, *, hours: float = 0.0) -> tuple[str | None, str | None]:
    """Ask for reader.test `hours` after its last time; its site and its trouble."""
    await pool.execute(
        "update domain set resolve_at = now(), absent_since = absent_since - $1 * interval '1 h'", float(hours)
    )
    await sites.resolve_domains(pool, Answers(**({"reader": answer} if answer else {})).locator)
    row = await pool.fetchrow("select s.name, d.trouble from domain d left join site s on s.id = d.site_id")
    assert row is not None
    return row[0], row[1]


async def again_in(pool: Pool) -> float:
    return float(await pool.fetchval("select extract(epoch from resolve_at - now()) from domain"))


async def test_that_a_domain_does_not_exist_is_believed_when_dns_has_said_so_for_an_hour(pool: Pool) -> None:
    await pool.execute("insert into domain (name) values ('reader.test')")
    gone = "reader.test: the domain reader.test does not exist"

    first = await ask(pool, ABSENT)
    soon = await again_in(pool)
    steps = [first, await ask(pool, None, hours=0.9), await ask(pool, ABSENT, hours=0.2)]
    hosts = await pool.fetchval("select hosts from site")

    assert steps == [(None, ABSENT.why), (None, "reader.test"), (gone, ABSENT.why)]
    assert soon < sites.ABSENT_FOR
    assert hosts == []


async def test_one_answer_in_between_and_the_hour_begins_again(pool: Pool) -> None:
    await pool.execute("insert into domain (name) values ('reader.test')")
    steps = [
        await ask(pool, ABSENT),
        await ask(pool, SITE, hours=0.9),
        await ask(pool, ABSENT, hours=0.9),
        await ask(pool, ABSENT, hours=0.9),
    ]

    assert steps == [(None, ABSENT.why), ("mx.test", None), ("mx.test", ABSENT.why), ("mx.test", ABSENT.why)]


async def test_what_a_domain_says_itself_is_believed_at_once_and_what_dns_does_not_say_never(pool: Pool) -> None:
    await pool.execute("insert into domain (name) values ('reader.test')")
    nothing = NoMail("neither MX nor address")
    steps = [
        await ask(pool, None),
        await ask(pool, nothing, hours=9),
        await ask(pool, SITE),
        await ask(pool, nothing, hours=9),
        await ask(pool, NoMail("null MX", refuses=True)),
    ]

    assert steps == [
        (None, "reader.test"), (None, nothing.why), ("mx.test", None), ("mx.test", nothing.why),
        ("reader.test: null MX", "null MX"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ttl", "least"), [(0.0, sites.FRESH), (60.0, sites.LEAST_FRESH), (1200.0, 1200.0), (86400.0, sites.FRESH)]
)
async def test_a_domain_is_asked_for_again_when_its_answer_is_no_longer_true(
    pool: Pool, ttl: float, least: float
) -> None:
    await pool.execute("insert into domain (name) values ('reader.test')")
    await ask(pool, Site("mx.test", ["10 mx.test:25"], ttl))

    assert least - 5 <= await again_in(pool) <= least * 1.1


async def test_the_policy_of_a_domain_is_kept_and_told_to_whoever_looks_for_it_again(pool: Pool) -> None:
    await pool.execute("insert into domain (name) values ('reader.test')")
    policy, other = (Policy(id_, "enforce", (f"mx{id_}.test",), 3600, 1000.0) for id_ in "12")
    told: list[Policy | None] = []

    class Told(Locator):
        async def locate(self, domain: str, known: Policy | None = None) -> Located | NoMail:
            told.append(known)
            if len(told) == 2:
                raise Unresolved(domain)
            if len(told) == 3:
                raise Barred("it allows none of its hosts", other)
            return Located("mx.test+mta-sts", ["10 mx.test:25"], 0.0, policy if len(told) == 1 else None)

    for _ in range(5):
        await pool.execute("update domain set resolve_at = now()")
        await sites.resolve_domains(pool, Told.from_config(CONFIG, Answers(), SystemClock()))

    assert told == [None, policy, policy, other, None]


async def test_a_slow_answer_holds_up_nobody(pool: Pool) -> None:
    """Not those in hand, and not those that come while it is waited for."""
    await pool.execute("insert into domain (name) select n || '.test' from unnest('{slow,reader}'::text[]) n")
    answers = Answers(reader=SITE, late=SITE, slow=SITE)
    async with asyncio.timeout(30):
        resolving = asyncio.create_task(sites.resolve_domains(pool, answers.locator))
        for count in (1, 2):
            while await pool.fetchval("select count(site_id) from domain") < count:
                assert not resolving.done()
            await pool.execute("insert into domain (name) values ('late.test') on conflict do nothing")
        answers.hanging.set()

        assert await resolving == 3


async def test_domains_that_were_taken_and_never_answered_are_taken_again_soon(pool: Pool) -> None:
    await pool.execute("insert into domain (name) values ('slow.test')")
    async with pool.acquire() as conn:
        resolving = asyncio.create_task(sites.resolve_domains(pool, Answers().locator))
        while not await conn.fetchval("select count(*) from domain where resolve_at > now()"):
            pass
        resolving.cancel()
        await asyncio.gather(resolving, return_exceptions=True)

    assert 0 < await again_in(pool) <= 60
