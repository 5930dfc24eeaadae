"""A receiver, its queue and the workers of a test that send from several addresses of the loopback network."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from engine.service import Catalogue
from mtad.base.config import Config, Route
from mtad.base.shape import Shaping
from mtad.base.source import Source, SourcePool
from mtad.pipeline import Pipeline
from mtad.queue import store
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer
from tests.pipeline.office import HastyClock, PlainComposer, PlainDkim
from tests.pipeline.receiver import Receiver
from tests.queue.world import World

WARM = Source(name="warm", address=("127.0.0.2",), hostname="warm.example.com")
COLD = Source(name="cold", address=("127.0.0.3",))


class Place:
    """A receiver, a queue, and as many workers as wanted."""

    def __init__(self, world: World, receiver: Receiver, *sources: Source, shape: Shaping | None = None,
                 pools: Mapping[str, Mapping[str, int]] = {}) -> None:  # fmt: skip
        self.world = world
        self.receiver = receiver
        self.config = Config(
            domain="example.com", shape=shape or Shaping(), source=sources,
            route=(Route(domain="*", host="127.0.0.1", port=receiver.port),),
            pool=tuple(SourcePool(name=name, sources=dict(weights)) for name, weights in pools.items()),
        )  # fmt: skip
        self.site = 0
        self.routed = [f"127.0.0.1:{receiver.port}"]
        self._queued = 0

    async def queue(self, number: int) -> None:
        if not self.site:
            name = f"127.0.0.1:{self.receiver.port}"
            self.site = (await store.sites_by_name(self.world.rows.conn, {name: [f"0 {name}"]}))[name]
        for _ in range(number):
            self._queued += 1
            await self.world.job(f"p{self._queued}@reader.test", site_id=self.site)

    def pipeline(self, worker: int) -> Pipeline:
        clock = HastyClock()
        pool = self.world.pool
        return Pipeline(
            config=self.config, pool=pool, clock=clock, worker=worker, slot=worker, catalogue=Catalogue(pool),
            composer=PlainComposer(), dkim=PlainDkim(), luck=lambda: 0.5,
            dialer=Dialer("mail.example.com", Resolver(clock), clock, routed=self.routed),
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def workers(self, number: int = 1) -> AsyncIterator[None]:
        pipelines = [self.pipeline(await self.world.worker(n)) for n in range(number)]
        running = [asyncio.create_task(pipeline.run()) for pipeline in pipelines]
        try:
            yield
            for pipeline in pipelines:
                pipeline.drain()
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()

    async def until(self, query: str) -> None:
        """For what stays so: what comes and goes may be over when we look."""
        while not await self.world.pool.fetchval(query):
            await self._look_again()

    async def until_so(self, fact: Callable[[], bool]) -> None:
        """The same of what this process knows."""
        while not fact():
            await self._look_again()

    async def _look_again(self) -> None:
        await store.refresh_hints(self.world.rows.conn)
        await asyncio.sleep(0.01)

    async def until_delivered(self, number: int) -> None:
        await self.until(f"select count(*) = {number} from ledger where outcome = 'delivered'")

    async def sent_by(self) -> dict[str, int]:
        rows = await self.world.pool.fetch("select source, count(*) from ledger group by source")
        return {row[0]: row[1] for row in rows}
