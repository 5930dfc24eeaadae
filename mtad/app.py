"""The composition root of one worker: configuration → pool, clock, services; starts, drains, stops.

One process, one event loop, everything in it: pipeline, tracker, and whichever
worker holds the lock keeps house.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from engine import service as engine
from engine.service import Catalogue
from mtad.base.again import until_it_works
from mtad.base.clock import Clock, SystemClock
from mtad.base.config import Config, seconds
from mtad.base.db import AWAY, Connection, Pool, open_pool
from mtad.base.errors import Problem
from mtad.base.migrate import require_schema_of
from mtad.compose.composer import Composer
from mtad.compose.preview import tracking_keys
from mtad.consent.desk import ConsentDesk
from mtad.dkim.sign import Signer as Dkim
from mtad.ops import retention
from mtad.ops.daemon import ROLES
from mtad.ops.disk import Disks
from mtad.ops.exporter import exporting
from mtad.ops.housekeeper import Housekeeper
from mtad.ops.keyfiles import read_event_keys, read_logins
from mtad.ops.lag import LagMeter
from mtad.ops.line import answering
from mtad.ops.locator import Locator
from mtad.ops.outcome_log import OutcomeLog
from mtad.ops.probe import Probe
from mtad.ops.watch import Watch
from mtad.pipeline import Pipeline
from mtad.queue import workers
from mtad.queue.workers import Heart
from mtad.sweeps import sweeps
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer
from mtad.wire.trace import Trace
from tracker import service as tracker
from tracker.tokens import Keys
from tracker.web import make_runner

log = logging.getLogger("mtad.app")


# So long a worker that goes brings in what its tracker heard last; seconds.
LAST_HITS = 2.0


class Place(msgspec.Struct, frozen=True):
    """Which worker this is, and what the supervisor handed over."""

    slot: int
    database: str  # URL
    tracker_sockets: Sequence[socket.socket] = ()
    roles: Sequence[str] = ROLES
    parent_fd: int | None = None  # the line to the supervisor


async def run_worker(config: Config, place: Place, ready: Callable[[], None]) -> None:
    """Work until SIGTERM or SIGINT, then drain and return; `ready` is called when everything works.

    The tracker is there first and goes last, and needs no database: what it hears
    meanwhile stays in its journal.
    """
    clock = SystemClock()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keys = tracking_keys(config)
    tracking = Tracking()
    pool = await open_pool(
        place.database,
        most=config.database.connections,
        name=f"mtad {place.slot}",
        least=0,
        hot=True,
        admit=tracking.require_our_schema,
    )
    try:
        async with (
            exporting(
                config.metrics.listen, place.slot, lambda: tracking.worker is not None, Disks.from_config(config)
            ),
            _tracked(tracking, config, place, pool, clock, keys),
        ):
            worker = await _until_stopped(stop, _register(config, place, pool, clock))
            if worker is None:
                return
            tracking.worker = worker
            ready()
            await _deliver(config, place, pool, clock, worker, keys, stop)
        await workers.leave(pool, worker, config.in_doubt_intervals)
        log.info("worker drained", extra={"worker": worker})
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 5)


class Tracking:
    """What the tracker learns late: which worker it belongs to."""

    worker: int | None = None

    async def require_our_schema(self, conn: Connection) -> None:
        """Until we are a worker of it, a database of another schema is one that is away: for hits and pages, too."""
        if self.worker is None:
            try:
                await require_schema_of(conn)
            except Problem as problem:
                raise ConnectionRefusedError(str(problem)) from None


@contextlib.asynccontextmanager
async def _tracked(
    tracking: Tracking, config: Config, place: Place, pool: Pool, clock: Clock, keys: Keys
) -> AsyncIterator[None]:
    """The tracker runs inside the block; every hit that it answered is durable after it."""
    if not place.tracker_sockets:
        yield
        return
    watch = tracker.Tracker(
        pool=pool,
        keys=keys,
        state=config.state,
        slot=place.slot,
        worker=lambda: tracking.worker,
        unsubscribe=partial(engine.unsubscribe, pool),
        trusted_proxies=config.tracker.trusted_proxies,
        journal_bytes=config.tracker.journal_limit << 20,
        clock=clock,
        desk=ConsentDesk(pool, config),
        event_keys=read_event_keys(config),
        sites=config.tracker.sites,
        offer=engine.offer,
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watch.run(), name="tracker")
        runner = make_runner(watch.app())
        await runner.setup()
        for listener in place.tracker_sockets:
            await web.SockSite(runner, listener).start()
        try:
            yield
        finally:
            await runner.cleanup()
            # What nobody has read holds up all that waits for silence, until this host has a worker again.
            with contextlib.suppress(*AWAY):
                async with asyncio.timeout(LAST_HITS):
                    await watch.finish()
            running.cancel()


async def _until_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, int]) -> int | None:
    """The result of `work`, or None when we were asked to stop before it came."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    return None


async def _register(config: Config, place: Place, pool: Pool, clock: Clock) -> int:
    """Become a worker of the cluster, as soon as there is a database that takes us.

    One of another schema, or that knows our password no more, is waited for, too: somebody
    migrates it, or restores it, and recipients are served meanwhile.
    """

    async def register() -> int:
        return await workers.register(
            pool,
            host=socket.gethostname(),
            slot=place.slot,
            pid=os.getpid(),
            hears=bool(place.tracker_sockets),
            in_doubt=config.in_doubt_intervals,
        )

    worker = await until_it_works(register, clock, log, "waiting for the database")
    log.info("worker started", extra={"worker": worker, "pid": os.getpid()})
    return worker


async def _deliver(
    config: Config, place: Place, pool: Pool, clock: Clock, worker: int, keys: Keys, stop: asyncio.Event
) -> None:
    """Heart, housekeeper and pipeline until asked to stop; then drain."""
    catalogue = Catalogue(pool)
    resolver = Resolver.from_config(config, clock)
    heart = Heart(pool, clock, worker)
    lag, trace = LagMeter(clock), Trace(clock)
    watch = Watch(clock, lag, _outcome_log(config, clock, worker))
    figures = partial(watch.figures, place.slot, worker, os.getpid())
    async with answering(config.state, place.slot, trace, figures), asyncio.TaskGroup() as group:
        background = [
            group.create_task(heart.run(), name="heart"),
            group.create_task(lag.run(), name="lag meter"),
        ]
        if place.slot == 0:
            background.append(group.create_task(retention.tend_files(pool, config, clock), name="old files"))
        if "engine" in place.roles:
            locator = Locator.from_config(config, resolver, clock)
            asking = Probe(pool, clock, keys, config.tracker_url, resolver)
            keeper = Housekeeper(pool, clock, sweeps(config, pool, catalogue, locator, heart, asking))
            background.append(group.create_task(keeper.run(), name="housekeeper"))
        pipeline = Pipeline(
            config=config,
            pool=pool,
            clock=clock,
            worker=worker,
            slot=place.slot,
            catalogue=catalogue,
            composer=Composer(config, keys),
            dkim=Dkim.from_config(config),
            dkim_by_source={
                source: Dkim.from_config(config, source) for source in {dkim.source for dkim in config.dkim} if source
            },
            dialer=Dialer.from_config(config, resolver, clock, read_logins(config), trace),
            luck=random.random,
            settled=watch.settled,
        )
        watch.lanes = pipeline.lanes
        delivering = group.create_task(pipeline.run(), name="pipeline") if "mta" in place.roles else None
        await stop.wait()
        log.info("draining", extra={"worker": worker})
        if delivering is not None:
            await _drain(pipeline, delivering, seconds(config.mta.drain))
        for task in background:
            task.cancel()


def _outcome_log(config: Config, clock: Clock, worker: int) -> OutcomeLog | None:
    if config.log_outcomes == "off":
        return None
    return OutcomeLog(clock, socket.gethostname(), worker, addresses=config.log_outcomes == "addresses")


async def _drain(pipeline: Pipeline, delivering: asyncio.Task[None], within: float) -> None:
    pipeline.drain()
    done, _ = await asyncio.wait([delivering], timeout=within)
    if not done:
        log.warning("the time to drain is over: what is on the wire is in doubt")
        pipeline.abort()
        await asyncio.wait([delivering], timeout=5)
