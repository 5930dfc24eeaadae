"""The pipeline on real Postgres, when the database goes away and when servers hang up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from math import inf
from typing import Any, cast

import pytest

from engine.service import Catalogue
from mtad.base.clock import Clock, SystemClock
from mtad.base.config import Config, Route, Shape, Shaping
from mtad.base.db import Connection, Pool
from mtad.base.shape import Layer
from mtad.compose.composer import Composed, Composer
from mtad.dkim.sign import Draft, Signer
from mtad.pipeline import Pipeline, claimer, sessions
from mtad.pipeline.beginner import Begun, Turn
from mtad.pipeline.signer import Signer as Signing
from mtad.pipeline.watchdog import Phase, Step, Watchdog
from mtad.queue import store
from mtad.shape.feedback import INITIAL
from mtad.smtp.results import Accepted, Lost, Refused, Result, Stage
from mtad.wire.egress import ANY, Egress, Unbound
from mtad.wire.session import Dialer, Session
from mtad.wire.terms import Terms
from tests.queue.world import World, new_world

# Idle sessions stay, so that what waits for their end would wait for ever.
CONFIG = Config(
    domain="example.com", shape=Shaping(idle_timeout="1h"),
    route=(
        Route(domain="six.test", host="::1", shape=Layer(connection_limit=3)),
        Route(domain="shy.test", host="::2", shape=Layer(
            max_connection_rate="20/s,max_burst=1", max_deliveries_per_connection=1)),
    ),
)  # fmt: skip

TRANSACTIONAL: Any = {"class": 0, "prio": 0}


class HastyClock(SystemClock):
    """Sleeps a fiftieth."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 50)


class FrailPool:
    """A pool whose database can be away, for everything or for one statement."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.away = False
        self.unheard = ""  # a statement that runs, but whose next answer is lost
        self.refused = ""  # a statement that does not run
        self.refusals = 0

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        if self.away:
            raise ConnectionRefusedError("the database is away")
        async with self._pool.acquire() as conn:
            yield cast(Connection, FrailConnection(conn, self))


class FrailConnection:
    def __init__(self, conn: Connection, pool: FrailPool) -> None:
        self._conn = conn
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        if sql == self._pool.refused:
            self._pool.refusals += 1
            raise ConnectionResetError("before it ran")
        rows = await self._conn.fetch(sql, *arguments)
        if sql == self._pool.unheard:
            self._pool.unheard = ""
            raise ConnectionResetError("after it ran")
        return rows


class Postman(Session):
    """A session that accepts everything, or one whose server hung up after its greeting."""

    def __init__(self, office: "PostOffice", clock: Clock, *, usable: bool) -> None:
        self._office = office
        self._clock = clock
        self._usable = usable
        self.deliveries = 0

    host = "mx.reader.test"
    encryption = "", ""
    local = ""
    number = 0
    data_at = 0.0

    @property
    def usable(self) -> bool:
        return self._usable

    def alive(self) -> bool:
        return self._usable

    async def send(self, return_path: str, recipient: str, message: bytes, *, data_by: float) -> Result:
        self.deliveries += 1
        self._office.waiting += 1
        if not recipient.startswith("urgent"):
            await self._office.accepts.wait()
        self._office.waiting -= 1
        self._office.sent.append(recipient)
        if self._office.refusals:
            self._office.refusals -= 1
            if not self._office.refusals:
                self._office.accepts.clear()
            return Refused(Stage.MAIL, 421, "4.7.0", "421 4.7.0 too many connections", self.host)
        now = self._clock.now()
        return Accepted("250 ok", now, now, self.host)

    async def close(self) -> None:
        self._usable = False


class PostOffice(Dialer):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.opened = 0
        self.opened_at: list[float] = []
        self.sent: list[str] = []
        self.waiting = 0  # mails that were offered and are not answered
        self.refusals = 0  # mails that get a 421; those after them are not answered
        self.hangs_up = False
        self.accepts = asyncio.Event()
        self.accepts.set()
        self.answers = asyncio.Event()
        self.answers.set()

    async def open(
        self, hosts: Sequence[str], terms: Terms | None = None, egress: Egress = ANY
    ) -> Session | Refused | Lost | Unbound:
        self.opened += 1
        self.opened_at.append(self._clock.monotonic())
        await self.answers.wait()
        return Postman(self, self._clock, usable=not self.hangs_up)


class PlainComposer(Composer):
    def __init__(self) -> None: ...

    async def need(self, *arguments: object) -> None: ...

    def compose(self, facts: Any, *arguments: object) -> Composed:
        return Composed("bounce@example.com", facts.address, "example.com", [], b"hello\r\n")


class PlainDkim(Signer):
    def __init__(self) -> None: ...

    def draft(self, *arguments: object, **named: object) -> Draft:
        return Draft([], [], b"")


class Office:
    """One worker's pipeline, and what the test does to it."""

    def __init__(self, world: World, pool: FrailPool, worker: int, *, dialer: Dialer | None = None) -> None:
        clock = HastyClock()
        self.world = world
        self.pool = pool
        self.worker = worker
        self.post = PostOffice(clock)
        self.pipeline = Pipeline(
            config=CONFIG, pool=cast(Pool, pool), clock=clock, worker=worker, slot=0,
            catalogue=Catalogue(cast(Pool, pool)), composer=PlainComposer(), dkim=PlainDkim(),
            dialer=dialer or self.post, luck=lambda: 0.5,
        )  # fmt: skip

    async def until(self, done: Callable[[], Awaitable[bool]]) -> None:
        while not await done():
            await store.refresh_hints(self.world.rows.conn)
            await asyncio.sleep(0.01)

    async def until_count(self, query: str, number: int) -> None:
        async def enough() -> bool:
            return bool(await self.world.pool.fetchval(query) == number)

        await self.until(enough)

    async def until_delivered(self, number: int) -> None:
        await self.until_count("select count(*) from ledger where outcome = 'delivered'", number)


@pytest.fixture
async def office(pool: Pool) -> AsyncIterator[Office]:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        yield Office(world, FrailPool(pool), await world.worker())


@contextlib.asynccontextmanager
async def open_office(office: Office) -> AsyncIterator[None]:
    """The pipeline runs inside the block and is drained after it."""
    running = asyncio.create_task(office.pipeline.run())
    try:
        yield
        office.pipeline.drain()
        await running
    finally:
        running.cancel()


async def _is(fact: bool) -> bool:
    return fact


async def _turns() -> None:
    """Whatever could happen without waiting for anybody has happened."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_is_queued_is_delivered_once(office: Office) -> None:
    people = [f"p{n}@reader.test" for n in range(100)]
    for person in people:
        await office.world.job(person)

    async with open_office(office):
        await office.until_delivered(100)

    assert sorted(office.post.sent) == sorted(people)


async def test_a_claim_whose_answer_was_lost_is_worked_on_all_the_same(office: Office) -> None:
    await office.world.job()
    office.pool.unheard = store.SQL["claim"]

    async with open_office(office):
        await office.until_delivered(1)

    assert office.post.sent == ["ann@reader.test"]


async def test_nothing_is_claimed_while_endings_cannot_be_written_down(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.world.job("ann@reader.test")
    office.pool.refused = store.SQL["settle_ended"]
    claim, claimed_behind = store.claim, []

    async def watched(*arguments: Any, **named: Any) -> Any:
        claimed_behind.append(office.pipeline._settler.behind)
        return await claim(*arguments, **named)

    monkeypatch.setattr(store, "claim", watched)

    async with open_office(office):
        await office.until(lambda: _is(office.pool.refusals >= 6))
        await office.world.job("bob@reader.test")
        office.pool.refused = ""
        await office.until_delivered(2)

    assert claimed_behind
    assert not any(claimed_behind)


async def test_an_aborted_pipeline_ends_with_the_database_away_and_what_it_held_is_freed(office: Office) -> None:
    await office.world.job()
    office.pool.refused = store.SQL["settle_ended"]
    running = asyncio.create_task(office.pipeline.run())

    async def sent() -> bool:
        return bool(office.post.sent)

    await office.until(sent)
    office.pool.away = True
    office.pipeline.drain()
    office.pipeline.abort()
    await running

    freed = await store.bury(office.world.rows.conn, [office.worker], [60] * 3)
    assert freed == (0, 1)


async def test_a_server_that_hangs_up_after_its_greeting_is_left_alone_for_a_while(office: Office) -> None:
    await office.world.job()
    office.post.hangs_up = True

    async with open_office(office):
        await office.until_count("select count(*) from lane where closed_until > now()", 1)

    row = await office.world.pool.fetchrow("select attempt, worker, due > now() from job")
    assert row is not None
    assert tuple(row.values()) == (1, None, True)
    assert office.post.opened == 1


async def test_a_route_to_an_ipv6_address_has_its_own_limits(office: Office) -> None:
    site = (await store.sites_by_name(office.world.rows.conn, {"[::1]:25": ["0 [::1]:25"]}))["[::1]:25"]
    await office.world.job("ann@six.test", site_id=site)

    async with open_office(office):
        await office.until_delivered(1)

    assert await office.world.pool.fetchval("select sessions from lane where site_id = $1", site) == 3


async def test_no_more_connections_are_opened_than_a_lane_may(office: Office) -> None:
    site = (await store.sites_by_name(office.world.rows.conn, {"[::2]:25": ["0 [::2]:25"]}))["[::2]:25"]
    for n in range(7):
        await office.world.job(f"p{n}@shy.test", site_id=site)

    async with open_office(office):
        await office.until_delivered(7)

    assert len(office.post.opened_at) == 7
    assert office.post.opened_at[-1] - office.post.opened_at[0] >= 6 / 20 - 0.05


async def test_no_session_begins_its_next_mail_before_the_ledger_has_its_last(office: Office) -> None:
    people = [f"p{n}@reader.test" for n in range(60)]
    for person in people:
        await office.world.job(person)
    office.pool.refused = store.SQL["settle_ended"]

    async with open_office(office):

        async def refused_for_a_while() -> bool:
            return office.pool.refusals > 20

        await office.until(refused_for_a_while)
        begun = len(office.post.sent)
        office.pool.refused = ""
        await office.until_delivered(60)

    assert begun <= Shape().connection_limit
    assert sorted(office.post.sent) == sorted(people)


async def test_where_others_hold_all_sessions_but_one_that_one_is_enough_and_no_more_are_asked_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [f"p{n}@reader.test" for n in range(60)]
    for person in people:
        await office.world.job(person)
    conn = office.world.rows.conn
    other = await office.world.worker(1)
    await store.lanes_of(conn, [store.Limit(office.world.site, 100, 100, Shape().connection_limit)])
    most = Shape().connection_limit - 1
    assert await office.world.hold(other, most, growing=True) == most
    asked = 0
    ask = store.hold_sessions

    async def counted(*arguments: Any) -> dict[int, int]:
        nonlocal asked
        asked += 1
        return await ask(*arguments)

    monkeypatch.setattr(store, "hold_sessions", counted)

    async with open_office(office):
        await office.until_delivered(60)

    assert sorted(office.post.sent) == sorted(people)
    assert asked < 60, "a session was asked for with each mail"


async def test_a_lane_begins_with_few_sessions_has_more_with_success_and_half_with_trouble(office: Office) -> None:
    people = [f"p{n}@reader.test" for n in range(90)]
    for person in people:
        await office.world.job(person)
    most = Shape().connection_limit
    office.post.accepts.clear()

    def mails_on_the_wire(number: int) -> Callable[[], Awaitable[bool]]:
        async def reached() -> bool:
            return office.post.waiting == number

        return reached

    async with open_office(office):
        await office.until(mails_on_the_wire(INITIAL))
        office.post.accepts.set()
        await office.until_count("select (count(*) >= 20)::int from ledger", 1)
        office.post.accepts.clear()
        await office.until(mails_on_the_wire(most))
        office.post.refusals = most
        office.post.accepts.set()
        await office.until(mails_on_the_wire(most // 2))
        for _ in range(50):
            await asyncio.sleep(0)
        assert office.post.waiting == most // 2
        office.post.accepts.set()
        await office.until_count("select count(*) from job where attempt = 0", 0)


async def test_a_transactional_mail_overtakes_a_campaign_that_was_claimed_before(office: Office) -> None:
    bulk = [f"p{n}@reader.test" for n in range(200)]
    for person in bulk:
        await office.world.job(person)
    office.post.accepts.clear()

    async with open_office(office):
        await office.until_count("select (count(*) >= 64)::int from job where worker is not null", 1)
        await office.world.job("urgent@reader.test", **TRANSACTIONAL)
        await office.until_count("select count(*) from job where prio = 0 and worker is not null", 1)
        office.post.accepts.set()
        await office.until_delivered(201)

    assert office.post.sent.index("urgent@reader.test") <= 2 * Shape().connection_limit


async def test_where_transactional_mail_was_seen_bulk_leaves_a_session_to_it(office: Office) -> None:
    await office.world.job("urgent1@reader.test", **TRANSACTIONAL)

    async with open_office(office):
        await office.until_delivered(1)
        office.post.accepts.clear()
        for n in range(100):
            await office.world.job(f"p{n}@reader.test")
        await office.until_count("select count(*) from job where begun is not null", INITIAL)  # of one more
        await office.world.job("urgent2@reader.test", **TRANSACTIONAL)
        await office.until_delivered(2)
        office.post.accepts.set()
        await office.until_delivered(102)

    assert office.post.sent[:2] == ["urgent1@reader.test", "urgent2@reader.test"]


async def test_a_worker_that_holds_enough_mail_claims_transactional_mail_all_the_same(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimer, "MOST_WAITING", 1)
    for n in range(200):
        await office.world.job(f"p{n}@reader.test")
    office.post.accepts.clear()

    async with open_office(office):
        await office.until_count("select (count(*) >= 64)::int from job where worker is not null", 1)
        await office.world.job("urgent@reader.test", **TRANSACTIONAL)
        await office.until_count("select count(*) from job where prio = 0 and worker is not null", 1)
        claimed = await office.world.pool.fetchval("select count(*) from job where worker is not null")
        office.post.accepts.set()
        await office.until_delivered(201)

    assert claimed == 64 + 1


async def test_a_worker_at_its_most_sessions_closes_idle_ones_for_other_sites(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 2)
    named = {f"mx{n}.test": ["0 mx.test:25"] for n in range(3)}
    one, two, three = (await store.sites_by_name(office.world.rows.conn, named)).values()
    await office.world.job("ann@reader.test", site_id=one)
    await office.world.job("bob@reader.test", site_id=two)

    async with open_office(office):
        await office.until_delivered(2)
        await office.world.job("cem@reader.test", site_id=three)
        await office.until_delivered(3)


async def test_no_more_sessions_are_on_their_way_than_mails_wait(office: Office) -> None:
    await office.world.job()
    office.post.answers.clear()

    async with open_office(office):
        await office.until(lambda: _is(office.post.opened == 1))
        (site,) = office.pipeline._sites.values()
        site.grow(inf)
        site.open_for_backlog()
        await _turns()
        office.post.answers.set()
        await office.until_delivered(1)

    assert office.post.opened == 1


async def test_a_worker_that_cannot_sign_as_fast_opens_no_further_sessions(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        await office.world.job(f"p{n}@reader.test")
    office.post.accepts.clear()

    async with open_office(office):
        await office.until(lambda: _is(office.post.waiting == 1))
        (site,) = office.pipeline._sites.values()
        with monkeypatch.context() as patch:
            patch.setattr(Signing, "busy", True)
            site.grow(inf)
            assert site.opened == 1
        site.grow(inf)
        await office.until(lambda: _is(office.post.opened == 2))
        office.post.accepts.set()
        await office.until_delivered(4)


async def test_a_lane_without_mail_or_sessions_is_forgotten(office: Office) -> None:
    await office.world.job()

    async with open_office(office):
        await office.until_delivered(1)

        async def forgotten() -> bool:
            # Again and again: the ledger may have the mail before its session has fallen idle.
            for site in office.pipeline._sites.values():
                site.close_idle()
            return not office.pipeline._sites

        await office.until(forgotten)
        await office.world.job("bob@reader.test")
        await office.until_delivered(2)


async def test_a_drain_waits_for_sessions_that_are_granted_while_it_runs(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.world.job()
    asked, answer = asyncio.Event(), asyncio.Event()
    ask = store.hold_sessions

    async def slowly(*arguments: Any) -> dict[int, int]:
        asked.set()
        await answer.wait()
        return await ask(*arguments)

    monkeypatch.setattr(store, "hold_sessions", slowly)
    office.post.answers.clear()

    async def dialled() -> bool:
        return office.post.opened == 1

    async with open_office(office):
        await asked.wait()
        office.pipeline.drain()
        await office.until_count("select count(*) from job where worker is null", 1)
        answer.set()
        await office.until(dialled)
        await _turns()  # whoever does not wait for the session goes home now
        office.post.answers.set()

    assert await office.world.pool.fetchval("select sum(sessions) from lane_session") == 0


@pytest.mark.parametrize("phase", [Phase.SIGN, Phase.BEGIN, Phase.SEND])
async def test_a_delivery_that_hangs_is_ended_and_the_mail_before_and_in_its_hand_are_not_lost(
    office: Office, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    """The mail before is settled; one that may have been sent is in doubt, any other is tried again."""
    watchdog, never = office.pipeline._tools.watchdog, asyncio.Event()
    hangs = {
        Phase.SIGN: (office.pipeline._tools.signer, "sign"),
        Phase.BEGIN: (office.pipeline._tools.beginner, "begin"),
        Phase.SEND: (Postman, "send"),
    }[phase]
    works = getattr(*hangs)
    calls = 0

    async def second_hangs(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            await never.wait()
        return await works(*arguments, **named)

    monkeypatch.setattr(*hangs, second_hangs)
    for n in range(2):
        await office.world.job(f"p{n}@reader.test")

    async def stuck() -> bool:
        return calls == 2

    async with open_office(office):
        await office.until(stuck)
        watchdog.look()
        for step in watchdog.steps:
            step.since -= 1e6
        watchdog.look()
        await office.until_delivered(1 if phase is Phase.SEND else 2)
        if phase is Phase.SEND:
            await office.until_count("select count(*) from job where doubts = 1 and reason like '%watchdog%'", 1)

    assert len(office.post.sent) == (1 if phase is Phase.SEND else 2)
    assert office.post.opened == 2 - (phase is Phase.SEND)


async def test_who_waits_for_a_token_makes_progress_and_what_is_settled_is_not_settled_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second settling could give back a mail that is being sent again by then."""
    tools, again, never = office.pipeline._tools, asyncio.Event(), asyncio.Event()
    begins, submits = tools.beginner.begin, tools.settler.batcher.submit
    waits = 0
    settled: list[str] = []

    async def second_waits(turn: Turn) -> Begun:
        nonlocal waits
        if turn.last is None and not waits:
            return await begins(turn)
        waits += 1
        if turn.last is not None:
            await tools.settler.batcher.put(turn.last)
        if waits == 1:
            await again.wait()
            return Begun(0.1, 0.0)
        if waits == 2:
            await never.wait()
        return await begins(turn)

    async def submit(row: Any) -> Any:
        settled.append(row.facts.address)
        return await submits(row)

    async def waited_once() -> bool:
        return waits == 1

    async def waits_again() -> bool:
        return waits == 2

    def look_after_an_hour() -> None:
        tools.watchdog.look()
        for step in tools.watchdog.steps:
            step.since -= 1e6
        again.set()

    monkeypatch.setattr(tools.beginner, "begin", second_waits)
    monkeypatch.setattr(tools.settler.batcher, "submit", submit)
    for n in range(2):
        await office.world.job(f"p{n}@reader.test")

    async with open_office(office):
        await office.until(waited_once)
        look_after_an_hour()
        await office.until(waits_again)
        look_after_an_hour()
        ended = [step.ended for step in tools.watchdog.steps]
        tools.watchdog.look()
        await office.until_delivered(2)

    assert ended == [False]
    assert settled.count("p0@reader.test") == 1
    assert len(office.post.sent) == 2


async def test_a_session_that_is_aborted_as_the_watchdog_ends_it_is_over() -> None:
    watchdog, never = Watchdog(SystemClock()), asyncio.Event()

    async def hangs(step: Step) -> bool:
        step.phase = Phase.SIGN
        return await never.wait()

    async def given_up(_: Step) -> None:
        pytest.fail("what it held is for whoever aborts it")

    session = asyncio.create_task(watchdog.guard(hangs, given_up))
    await asyncio.sleep(0)
    for _ in range(2):
        watchdog.look()
        for step in watchdog.steps:
            step.since -= 1e6
    session.cancel()

    with pytest.raises(asyncio.CancelledError):
        await session
