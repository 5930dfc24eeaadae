"""`mtad demo`: everything for real, on loopback, in a folder of its own.

The product is driven through its own command line (mtad.lab.installation); around it
stand a receiving server, its users and one mailbox for the viewer. One day lasts one
second, as the demo's stream says.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from mtad.base.clock import Clock
from mtad.base.db import open_pool
from mtad.base.errors import Problem
from mtad.lab import store
from mtad.lab.books import facts_of
from mtad.lab.installation import Installation, next_commands
from mtad.lab.mailbox import Mailbox
from mtad.lab.people import DOMAINS, VIEWER, VIEWER_NAME, crowd
from mtad.lab.recipients import Recipients
from mtad.lab.reckoning import Result, reckon, table
from mtad.lab.screen import Screen, View
from mtad.lab.sink import Sink
from mtad.lab.stage import DAY, SERIES, STREAM, THRESHOLD, Options, Stage
from mtad.lab.story import Story
from mtad.lab.verify import Verifier


async def run_demo(options: Options, place: Installation, url: str, screen: Screen, clock: Clock) -> Result:
    """Play the whole story on the database `url`; Problem when it cannot go on."""
    if task := asyncio.current_task():
        # As by Ctrl-C: whoever ends the demo ends what it started.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    recipients = Recipients(clock, seed=options.seed, day=DAY, besides=frozenset({VIEWER}))
    pool = await open_pool(url, most=4, name="mtad demo")
    try:
        verifier = Verifier.from_config(place.config)
        async with (
            Sink(ports=len(DOMAINS) + 1, arrived=recipients.deliver) as sink,
            Mailbox(
                sink, pool, verifier, name=VIEWER_NAME, address=VIEWER, stream=STREAM, threshold=THRESHOLD
            ) as mailbox,
            running(recipients.run()),
        ):
            stage = Stage(
                options=options, place=place, pool=pool, sink=sink, recipients=recipients, mailbox=mailbox,
                people=crowd(options.contacts, options.seed), screen=screen, clock=clock,
            )  # fmt: skip
            try:
                return await _on(stage)
            finally:
                await place.stop()
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 5)


async def _on(stage: Stage) -> Result:
    began = stage.clock.monotonic()
    story = Story(stage)
    await stage.set()
    async with running(_watch(stage, story)):
        await story.play()
    exit_code = None if stage.options.stay else await stage.place.stop()
    facts = await facts_of(stage, seconds=stage.clock.monotonic() - began, exit_code=exit_code)
    result = reckon(facts)
    stage.screen.show(table(facts, result))
    stage.screen.act(
        "Ask it yourself.",
        *next_commands(stage.place, f"why {VIEWER}", f"program report {SERIES}", f"audience {STREAM}"),
    )
    if stage.options.stay:
        async with running(_watch(stage, story)):
            await _stay(stage)
    return result


async def _watch(stage: Stage, story: Story) -> None:
    """Draw the screen until cancelled; Problem when `mtad run` ends by itself."""
    while True:
        stage.place.require_running()
        async with stage.pool.acquire() as conn:
            view = View(await store.mails(conn), await store.states(conn, STREAM), story.line)
        stage.screen.update(view, stage.clock.monotonic())
        await stage.clock.sleep(0.5)


async def _stay(stage: Stage) -> None:
    """Until Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stage.screen.act("It goes on.", f"Your mailbox: {stage.mailbox.url}", "Ctrl-C ends it.")
    await stop.wait()


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have `work` running inside the block; if it fails, the block is cancelled and its error raised."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield
            finally:
                task.cancel()
    except* Problem as problems:
        raise problems.exceptions[0] from None
