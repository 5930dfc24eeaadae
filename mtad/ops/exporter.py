"""Metrics and health of one worker over HTTP, for Prometheus and for load balancers.

Each worker has its own counters, so each has its own port: the configured one plus
its slot. Nothing here asks the database: a probe must answer while it is away.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, disable_created_metrics, generate_latest

from mtad.base.endpoint import host_and_port
from mtad.base.errors import Unavailable
from mtad.ops.disk import Disks


@contextlib.asynccontextmanager
async def exporting(listen: str, slot: int, healthy: Callable[[], bool], disks: Disks) -> AsyncIterator[None]:
    """Answer /metrics and /healthz inside the block, on the port of `listen` plus `slot`; '' is nowhere.

    /healthz is 503 with a sentence until `healthy`, and while `disks` are short of room.
    Raises Unavailable when the port cannot be had.
    """
    if not listen:
        yield
        return
    # A time series beside each counter, which nobody asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    host, port = host_and_port(listen)

    async def metrics(_: web.Request) -> web.Response:
        await asyncio.to_thread(disks.look)
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        wrong = await asyncio.to_thread(disks.look) if healthy() else "the worker has not begun"
        return web.Response(text=f"not ready: {wrong}\n", status=503) if wrong else web.Response(text="ok\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", health)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port + slot).start()
    except OSError as error:
        await runner.cleanup()
        raise Unavailable(f"metrics.listen: {host}:{port + slot}: {error.strerror}") from None
    try:
        yield
    finally:
        await runner.cleanup()
