"""Streams, a form, and people who use it, on real Postgres."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.service import unsubscribe
from mtad.base.clock import SystemClock
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.ids import uuid7
from mtad.compose.apply import apply_stream
from mtad.consent.desk import ConsentDesk
from mtad.consent.forms import Applied, apply_form
from tests.tracker.made import KEYS
from tests.tracker.outside import served
from tracker.bearer import EventKeys
from tracker.desk import Act, Confirmed, Person, Visitor
from tracker.service import Tracker

STREAM = """
name = "{name}"
from = "Ines <ines@example.com>"
title = "{title}"
imprint = "Example School, Street 1, Hamburg"
tracking = "full"
"""
FORM = """
name = "site"
stream = "news"
consent = "Yes, write to me. I can stop it at any time."
"""
EVENT_TOKEN = "s" * 40
VISITOR = Visitor(ip="203.0.113.7", agent="Firefox", page="https://example.com/join")


class Office:
    """What tests do with a desk."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self.pool = pool
        self.folder = folder
        self.config = Config(domain="example.com")
        self.desk = ConsentDesk(pool, self.config)
        self._events = 0

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text, encoding="utf-8")
        return path

    async def apply(self, form: str = FORM) -> Applied:
        return await apply_form(self.pool, self.write("form.toml", form), "me")

    async def ask(
        self, address: str = "ann@reader.test", *, form: str = "site", version: int = 0, measuring: bool = False
    ) -> bool:
        """By the words of this version; 0: by those of now."""
        now = await self.desk.form(form)
        return await self.desk.subscribe(
            form, version or (now.version if now else 1), address, VISITOR, measuring=measuring
        )

    async def confirm(self, job: int) -> Confirmed:
        return await self.desk.confirm(job, VISITOR, event_id=self.event(), at=datetime.now(UTC))

    async def joined(self, address: str = "ann@reader.test", *, form: str = "site", measuring: bool = False) -> int:
        """Asked and confirmed; the contact."""
        await self.ask(address, form=form, measuring=measuring)
        assert await self.confirm((await self.jobs())[-1]) is Confirmed.DONE
        return int(await self.pool.fetchval("select id from contact where address = $1", address))

    async def act(self, act: Act, contact: int, stream: int | None = 1) -> bool:
        return await self.desk.act(act, contact, stream, VISITOR, event_id=self.event(), at=datetime.now(UTC))

    async def person(self, contact: int) -> Person:
        program = await self.pool.fetchval("select min(id) from program")
        found = await self.desk.person(contact, program)
        assert found is not None
        return found

    async def jobs(self) -> list[int]:
        return [row[0] for row in await self.pool.fetch("select id from job order by id")]

    async def deliver(self, ago: timedelta | None = None, reply: str | None = None) -> None:
        """What is queued went so long ago, or as soon as it was due."""
        await self.pool.execute(
            "with j as (delete from job returning *) insert into ledger (job_id, program_id, stream_id, message_id,"
            " contact_id, outcome, reason, reply, attempts, doubts, created, ended) select id, program_id, stream_id,"
            " message_id, contact_id, 'delivered', '', $2, 1, 0, created, coalesce(now() - $1::interval, due) from j",
            ago,
            reply,
        )

    async def proofs(self) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.pool.fetch("select * from proof order by job_id")]

    async def asking(self, job: int) -> tuple[str, str]:
        """The words that the page which confirms shows."""
        found = await self.desk.asking(job)
        assert found is not None
        return found.consent, found.measuring

    async def came_to(self, job: int) -> Confirmed | None:
        found = await self.desk.asking(job)
        return found.came_to if found else None

    async def status(self, stream: int = 1) -> str | None:
        found: str | None = await self.pool.fetchval(
            "select status::text from subscription where stream_id = $1", stream
        )
        return found

    async def later(self, span: timedelta) -> None:
        """As if so much time had passed since everything that happened."""
        await self.pool.execute(
            "update proof set asked = asked - $1::interval, due = due - $1::interval,"
            " confirmed = confirmed - $1::interval",
            span,
        )
        await self.pool.execute(
            "update subscription set changed = changed - $1::interval, break_until = break_until - $1::interval", span
        )

    def event(self) -> Any:
        self._events += 1
        return uuid7(int(datetime.now(UTC).timestamp() * 1000), self._events.to_bytes(10, "big"))


@asynccontextmanager
async def serving(office: Office) -> AsyncIterator[tuple[str, Tracker]]:
    """A tracker as a worker has it; its address on loopback."""
    with tempfile.TemporaryDirectory() as state:
        tracker = Tracker(
            pool=office.pool,
            keys=KEYS,
            state=Path(state),
            slot=0,
            worker=lambda: None,
            unsubscribe=partial(unsubscribe, office.pool),
            trusted_proxies=["127.0.0.0/8"],
            clock=SystemClock(),
            desk=office.desk,
            event_keys=EventKeys.parse(f"shop:{EVENT_TOKEN}"),
            sites=["www.example.com"],
        )
        running = asyncio.create_task(tracker.run())
        try:
            async with served(tracker.app()) as base:
                await tracker.journal.owned.wait()
                yield base, tracker
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def office(pool: Pool, tmp_path: Path) -> Office:
    """Two streams, news (1) and shop (2), and a form for news."""
    made = Office(pool, tmp_path)
    for name, title in (("news", "The Monday letter"), ("shop", "Offers")):
        await apply_stream(pool, made.write(f"{name}.toml", STREAM.format(name=name, title=title)), "me")
    await made.apply()
    return made
