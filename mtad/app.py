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
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

import msgspec

from engine import service as engine
from engine.service import Catalogue
from mtad.base.clock import Clock, SystemClock
from mtad.base.config import Config, seconds
from mtad.base.db import AWAY, Pool, open_pool
from mtad.base.errors import Unavailable
from mtad.base.migrate import require_schema
from mtad.compose.composer import Composer
from mtad.dkim.sign import Signer as Dkim
from mtad.ops import sites
from mtad.ops.housekeeper import Housekeeper, Sweep
from mtad.ops.parent import report_ready
from mtad.pipeline import Pipeline
from mtad.queue import advance, enqueue, programs, store, workers
from mtad.queue.workers import Heart
from mtad.wire.resolver import Resolver, routed_host
from mtad.wire.session import Dialer
from tracker import service as tracker
from tracker.tokens import Keys

log = logging.getLogger("mtad.app")

# The database may still be starting when we do.
WAIT_FOR_DATABASE = 30.0

ROLES = ("mta", "tracker", "engine")


class Place(msgspec.Struct, frozen=True):
    """Which worker this is, and what the supervisor handed over."""

    slot: int
    database: str  # URL
    tracker_sockets: Sequence[socket.socket] = ()
    roles: Sequence[str] = ROLES
    parent_fd: int | None = None  # the line to the supervisor


async def run_worker(config: Config, place: Place) -> None:
    """Work until SIGTERM or SIGINT, then drain and return."""
    clock = SystemClock()
    pool = await _patient_pool(config, place, clock)
    in_doubt = seconds(config.shape.in_doubt_interval)
    try:
        await require_schema(pool)
        worker = await workers.register(
            pool, host=socket.gethostname(), slot=place.slot, pid=os.getpid(), in_doubt_delay=in_doubt
        )
        log.info("worker started", extra={"worker": worker, "pid": os.getpid()})
        await _serve(config, place, pool, clock, worker)
        await workers.leave(pool, worker, in_doubt)
        log.info("worker drained", extra={"worker": worker})
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 5)


async def _patient_pool(config: Config, place: Place, clock: Clock) -> Pool:
    until = clock.monotonic() + WAIT_FOR_DATABASE
    while True:
        try:
            return await open_pool(place.database, most=config.database.connections, name=f"mtad worker {place.slot}")
        except Unavailable as error:
            if clock.monotonic() > until:
                raise
            log.warning("waiting for the database", extra={"why": str(error)})
            await clock.sleep(0.5)


async def _serve(config: Config, place: Place, pool: Pool, clock: Clock, worker: int) -> None:
    catalogue = Catalogue(pool)
    keys = Keys.parse(config.path(config.tracker.keys).read_text(encoding="ascii"))
    resolver = Resolver(clock)
    heart = Heart(pool, clock, worker)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    async with asyncio.TaskGroup() as group:
        background = [group.create_task(heart.run(), name="heart")]
        if "engine" in place.roles:
            keeper = Housekeeper(pool, clock, _sweeps(config, pool, catalogue, resolver, heart))
            background.append(group.create_task(keeper.run(), name="housekeeper"))
        if "tracker" in place.roles:
            watch = tracker.Tracker(
                pool=pool, clock=clock, keys=keys, state=config.state, slot=place.slot, worker=worker,
                sockets=place.tracker_sockets, unsubscribe=partial(_unsubscribe, pool),
                trusted_proxies=config.tracker.trusted_proxies,
            )  # fmt: skip
            background.append(group.create_task(watch.run(), name="tracker"))
        if "mta" in place.roles:
            pipeline = Pipeline(
                config=config, pool=pool, clock=clock, worker=worker, slot=place.slot, catalogue=catalogue,
                composer=Composer(config, keys), dkim=Dkim.from_config(config),
                dialer=Dialer(config.hostname, resolver, clock, routed=[routed_host(r) for r in config.route]),
                luck=random.random,
            )  # fmt: skip
            delivering = group.create_task(pipeline.run(), name="pipeline")
        if place.parent_fd is not None:
            report_ready(place.parent_fd)
        await stop.wait()
        log.info("draining", extra={"worker": worker})
        if "mta" in place.roles:
            await _drain(pipeline, delivering, seconds(config.mta.drain))
        for task in background:
            task.cancel()


async def _drain(pipeline: Pipeline, delivering: asyncio.Task[None], within: float) -> None:
    pipeline.drain()
    done, _ = await asyncio.wait([delivering], timeout=within)
    if not done:
        log.warning("the time to drain is over: what is on the wire is in doubt")
        pipeline.abort()
        await asyncio.wait([delivering], timeout=5)


async def _unsubscribe(
    pool: Pool, event_id: UUID, contact_id: int, program_id: int, at: datetime, how: str
) -> None:
    await engine.unsubscribe(
        pool, contact_id=contact_id, program_id=program_id, event_id=event_id, at=at, how=how
    )


def _sweeps(
    config: Config, pool: Pool, catalogue: Catalogue, resolver: Resolver, heart: Heart
) -> list[Sweep]:
    """What the housekeeper does, and how often."""
    in_doubt = seconds(config.shape.in_doubt_interval)

    async def free_the_dead() -> int:
        return await workers.free_the_dead(pool, in_doubt) if heart.steady else 0

    async def refresh_hints() -> int:
        async with pool.acquire() as conn:
            await store.refresh_hints(conn)
        return 0

    async def make_partitions() -> int:
        async with pool.acquire() as conn:
            await conn.execute("select make_partitions()")
        return 0

    async def start_scheduled() -> int:
        async with pool.acquire() as conn:
            names = await programs.ready_to_enqueue(conn)
        for name in names:
            async for _ in enqueue.enqueue(pool, config, name):
                pass
        return 0

    return [
        Sweep("free the dead", 2.0, free_the_dead),
        Sweep("refresh hints", 1.0, refresh_hints),
        Sweep("resolve domains", 0.5, partial(sites.resolve_domains, pool, resolver, config)),
        Sweep("label jobs", 5.0, partial(sites.label_jobs, pool)),
        Sweep("start scheduled", 1.0, start_scheduled),
        Sweep("advance entries", 0.25, partial(advance.advance, pool, catalogue, config)),
        Sweep("finish programs", 1.0, partial(advance.finish, pool)),
        Sweep("content faults", 2.0, partial(advance.pause_on_content_faults, pool)),
        Sweep("ripen hits", 0.25, partial(tracker.ripen, pool)),
        Sweep("fold signs", 0.25, partial(engine.fold, pool)),
        Sweep("make partitions", 3600.0, make_partitions),
    ]
