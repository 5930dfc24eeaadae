"""One worker's pipeline on real Postgres, with a server and a database that do what the test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

from engine.service import Catalogue
from mtad.base.clock import Clock, SystemClock
from mtad.base.config import Config, Route, Shaping
from mtad.base.db import Connection, Pool
from mtad.base.shape import Layer
from mtad.compose.composer import Composed, Composer
from mtad.dkim.sign import Draft, Signer
from mtad.pipeline import Pipeline
from mtad.queue import store
from mtad.smtp.results import Accepted, Lost, Refused, Result, Stage
from mtad.wire.egress import ANY, Egress, Unbound
from mtad.wire.session import Dialer, Session
from mtad.wire.terms import Terms
from tests.queue.world import World

# Idle sessions stay, so that what waits for their end would wait for ever.
CONFIG = Config(
    domain="example.com", shape=Shaping(idle_timeout="1h"),
    route=(
        Route(domain="six.test", host="::1", shape=Layer(connection_limit=3)),
        Route(domain="shy.test", host="::2", shape=Layer(
            max_connection_rate="20/s,max_burst=1", max_deliveries_per_connection=1)),
    ),
)  # fmt: skip


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
    encryption = "", "", ()
    local = ""
    number = 0
    data_at = 0.0

    @property
    def usable(self) -> bool:
        return self._usable

    def alive(self) -> bool:
        return self._usable

    async def send(
        self, return_path: str, recipient: str, message: bytes, *, data_by: float, safe_from: int | None = None
    ) -> Result:
        head = message[:safe_from]
        assert head.endswith(b"\r\n\r\n"), "whose body is not looked at is looked at up to it"
        assert head.count(b"\r\n\r\n") == 1
        self.deliveries += 1
        self._office.waiting += 1
        if not recipient.startswith("urgent"):
            await self._office.accepts.wait()
        self._office.waiting -= 1
        self._office.sent.append(recipient)
        if len(self._office.sent) == self._office.stops_after:
            self._office.accepts.clear()
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
        self.stops_after = 0  # mails, after which no more are answered; 0: never
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

    def __init__(
        self, world: World, pool: FrailPool, worker: int, *, config: Config = CONFIG, dialer: Dialer | None = None
    ) -> None:
        clock = HastyClock()
        self.world = world
        self.pool = pool
        self.worker = worker
        self.post = PostOffice(clock)
        self.pipeline = Pipeline(
            config=config, pool=cast(Pool, pool), clock=clock, worker=worker, slot=0,
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


async def is_so(fact: bool) -> bool:
    return fact


async def turns() -> None:
    """Whatever could happen without waiting for anybody has happened."""
    for _ in range(50):
        await asyncio.sleep(0)
