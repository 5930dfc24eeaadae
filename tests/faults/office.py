"""One lane of a worker, whole but for the database and the signer: what it writes down about each mail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import msgspec

from mtad.base.config import Config, Shape
from mtad.base.db import Connection
from mtad.base.retry import Retries
from mtad.outcome.automation import Automation
from mtad.outcome.classify import classify
from mtad.pipeline.allowances import Allowances
from mtad.pipeline.beginner import VALID, Begun, Turn
from mtad.pipeline.endings import Mail
from mtad.pipeline.providers import Providers
from mtad.pipeline.signer import Signed
from mtad.pipeline.site import SiteRunner
from mtad.pipeline.sources import Sources
from mtad.pipeline.tools import Tools
from mtad.pipeline.watchdog import Watchdog
from mtad.queue.settle import Ending
from mtad.queue.store import Ended, Grant, Lane, Released, Returned, Wish
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer
from tests.faults.loop import START, LoopClock
from tests.pipeline.test_endings import mail
from tests.wire.conftest import no_dns

MESSAGE = b"Subject: hi\r\n\r\nbody\r\n"
BIG = b"Subject: big\r\n\r\n" + (b"x" * 70 + b"\r\n") * 100_000  # more than all buffers on the way hold


class Story(msgspec.Struct, frozen=True):
    """What was written down about each mail, in order, and how many seconds it took."""

    rows: dict[int, list[str]]
    seconds: float


class Desk:
    """Begins whatever is offered, and keeps what is settled: beginner, settler, batcher, sessions, signer and pool."""

    def __init__(self, clock: LoopClock, *, big: bool) -> None:
        self.rows: list[Ending] = []
        self.batcher = self
        self._clock = clock
        self._big = big
        self._changed = asyncio.Event()

    # What a lane asks of its tools

    async def sign(self, mail: Mail, _source: str) -> Signed:
        message = BIG if self._big and mail.facts.job_id == 1 else MESSAGE
        return Signed("b@us.test", mail.facts.address, message)

    async def begin(self, turn: Turn) -> Begun:
        if turn.last is not None:
            self._note(turn.last)
        return Begun(0, self._clock.monotonic() + VALID)

    async def put(self, row: Ending) -> bool:
        self._note(row)
        return True

    async def submit(self, row: Ending) -> "asyncio.Future[bool]":
        done = asyncio.get_running_loop().create_future()
        done.set_result(await self.put(row))
        return done

    async def hold(self, wish: Wish, _now: int) -> Grant:
        return Grant(wish.wanted, share=wish.wanted, others_lack=False)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        raise ConnectionRefusedError("there is no database")
        yield

    # What a test asks

    def _note(self, row: Ending) -> None:
        self.rows.append(row)
        self._changed.set()

    async def until(self, count: int) -> None:
        """So many rows are there."""
        while len(self.rows) < count:
            self._changed.clear()
            await self._changed.wait()


async def story_of(port: int, mails: int, *, big: bool = False) -> Story:
    """Send these mails, numbered from 1, with one session at a time until each had an attempt; `big`: the first is."""
    clock, place = LoopClock(), f"127.0.0.1:{port}"
    desk = Desk(clock, big=big)
    dialer = Dialer("me.test", Resolver(clock, no_dns), clock, routed=[place])
    automation = Automation(cast(Any, desk), clock, 1, [], lambda _: None)
    others: dict[str, object] = {
        "clock": clock, "dialer": dialer, "automation": automation, "retries": Retries(), "luck": lambda: 0.5,
        "classify": classify,
        "sources": Sources(Config(domain="me.test"), clock), "allowances": Allowances(cast(Any, desk), clock, {}),
        "providers": Providers(cast(Any, desk), clock, 1), "watchdog": Watchdog(clock),
    }  # fmt: skip
    tools = Tools(**{name: cast(Any, others.get(name, desk)) for name in Tools.__struct_fields__})
    lane = Lane(1, 1, "x.test", (f"0 {place}",), 1)
    end = START + timedelta(days=5)
    waiting = [mail(job_id=n, address=f"p{n}@x.test", not_after=end) for n in range(1, mails + 1)]
    begun = clock.monotonic()
    async with asyncio.TaskGroup() as group:
        runner = SiteRunner([(lane, Shape())], tools, group)
        done = 0
        while waiting:
            while runner.is_shut(clock.monotonic()):
                await clock.sleep(1)
            runner.add(waiting)
            await desk.until(done + len(waiting))
            again = {row.facts.job_id for row in desk.rows[done:] if isinstance(row, Released)}
            done += len(waiting)
            waiting = [one for one in waiting if one.facts.job_id in again]
        await runner.drain()
    rows: dict[int, list[str]] = {}
    for row in desk.rows:
        rows.setdefault(row.facts.job_id, []).append(told(row))
    return Story(rows, clock.monotonic() - begun)


def told(row: Ending) -> str:
    """The row in one line: what, at which attempt, why."""
    match row:
        case Ended():
            return f"{row.outcome} {row.attempts}: {row.reply or row.reason}"
        case Returned():
            return f"{'doubt' if row.doubt else 'later'} {row.attempts}: {row.reason}"
        case Released():
            return "released"
