"""The last word is the newest: begin against everything that disqualifies, in three timings.

Two connections on real Postgres. Each test also runs against a copy of begin
without its row locks, which must fail: else the test would prove nothing.
"""

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from engine.facts import Facts
from engine.service import Suppress, end_silent, fold, set_program_status, suppress, unsubscribe
from mtad.audience.service import Options, import_contacts
from mtad.base.db import Connection, Pool
from mtad.base.ids import uuid7
from mtad.compose.apply import apply_stream
from mtad.queue import entries, store
from tests.queue.world import World, new_world
from tests.rows import Rows

# The lane is still locked: it is what begin waits for in the second timing.
_HEAD, _LANES, _REST = store.SQL["begin"].partition("gates as materialized")
WITHOUT_LOCKS = _HEAD + _LANES + re.sub(r"for (?:no key update|key share)(?: of \w)?", "", _REST)

Disqualify = Callable[[Connection, World, int], Awaitable[None]]
"""Make the contact of a job less eligible, in the transaction of the connection."""


async def suppress_address(conn: Connection, world: World, job: int) -> None:
    await suppress(conn, [Suppress("ann@reader.test", "all", "manual", "test", None)])


async def complain(conn: Connection, world: World, job: int) -> None:
    await suppress(conn, [Suppress("ann@reader.test", "marketing", "complained", "test", None)])


async def suppress_domain(conn: Connection, world: World, job: int) -> None:
    await suppress(conn, [Suppress("@reader.test", "all", "manual", "test", None)])


async def pause_program(conn: Connection, world: World, job: int) -> None:
    await set_program_status(conn, world.program.id, "paused", "test")


async def cancel_program(conn: Connection, world: World, job: int) -> None:
    await set_program_status(conn, world.program.id, "cancelled", "test")


async def series_ends_in_silence(conn: Connection, world: World, job: int) -> None:
    await entries.lock_gates(conn, [world.contacts[job]])
    entry = await conn.fetchval("select id from entry where contact_id = $1", world.contacts[job])
    assert await end_silent(conn, [entry]) == {entry}


async def unsubscribe_from_stream(conn: Connection, world: World, job: int) -> None:
    assert await unsubscribe(
        on_one(conn), contact_id=world.contacts[job], program_id=world.program.id, event_id=uuid7(1, bytes(10)),
        at=datetime.now(UTC), how="one_click",
    )  # fmt: skip


async def become_engaged(conn: Connection, world: World, job: int) -> None:
    """An earlier mail is answered twice over: open and click reach the threshold."""
    contact = world.contacts[job]
    earlier = await world.rows.mail(world.program, contact, "delivered", mail=2)
    kinds = {"open": world.program.pixels[1], "click": world.program.links[1][0]}
    for n, (kind, link) in enumerate(kinds.items()):
        await conn.execute(
            "insert into pending (event_id, job_id, kind, link_id, at, method, agent, class)"
            " values ($1, $2, $3, $4, now(), 'GET', 'Firefox', 'human')",
            uuid7(n + 1, bytes(10)), earlier, kind, link,
        )  # fmt: skip
    assert await fold(on_one(conn)) == 2


async def change_policy(conn: Connection, world: World, job: int) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write('name = "sales"\nfrom = "S <s@example.com>"\nimprint = "Street 1"\ntracking = "none"\n')
        file.flush()
        assert (await apply_stream(on_one(conn), Path(file.name), "test")).did == "changed"


async def import_other_attributes(conn: Connection, world: World, job: int) -> None:
    """Who moves out of the audience by an import."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.csv"
        path.write_text("email,country\nann@reader.test,FR\n")
        options = Options()
        await import_contacts(on_one(conn), path, options, now=datetime.now(UTC), progress=lambda *_: None)


async def use_up_cap(conn: Connection, world: World, job: int) -> None:
    """Another mail to the contact begins, by another worker over another lane."""
    contact = world.contacts[job]
    (lane,) = await store.lanes_of(conn, [store.Limit(world.site, 100, 100, 8, source="other")])
    worker = await store.register_worker(conn, "there", 0, 1)
    other = await Rows(conn).enrol(world.program, contact, mail=2)
    await Rows(conn).queued(world.program, contact, other, mail=2, site_id=world.site)
    await conn.execute("update site set ready_at = '-infinity'")
    (facts,) = await store.claim(conn, worker)
    assert await store.begin(conn, worker, [store.Offer(facts, lane.id, counts=True)]) == {other: 0}


def on_one(conn: Connection) -> Pool:
    """A pool of one connection, so that a whole transaction of the engine stays open in ours."""

    class OnOne:
        @contextlib.asynccontextmanager
        async def acquire(self) -> AsyncIterator[Connection]:
            yield conn

    return cast(Pool, OnOne())


DISQUALIFIERS = [
    suppress_address, complain, suppress_domain, pause_program, cancel_program, series_ends_in_silence,
    unsubscribe_from_stream, become_engaged, use_up_cap, change_policy, import_other_attributes,
]  # fmt: skip


@dataclass
class Fence:
    """A job that is claimed and judged, two connections, and one begin or a broken copy of it."""

    world: World
    job: int
    worker: int
    facts: Facts
    beginner: Connection
    other: Connection

    def begin(self) -> asyncio.Task[float | None]:
        async def run() -> float | None:
            return (await store.begin(self.beginner, self.worker, self.world.offers([self.facts])))[self.job]

        return asyncio.create_task(run())

    async def blocked_or_done(self, conn: Connection, task: asyncio.Task[Any]) -> bool:
        """Wait until `conn` waits for a lock (True) or its task is done (False)."""
        pid = conn.get_server_pid()
        while not task.done():
            if await self.world.pool.fetchval(
                "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1", pid
            ):
                return True
        return False


@pytest.fixture(
    params=[
        pytest.param(store.SQL["begin"], id="locked"),
        pytest.param(WITHOUT_LOCKS, id="unlocked", marks=pytest.mark.xfail(strict=True, reason="no locks, no fence")),
    ]
)
async def fence(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, pool: Pool) -> AsyncIterator[Fence]:
    monkeypatch.setitem(store.SQL, "begin", request.param)
    async with pool.acquire() as setup, pool.acquire() as beginner, pool.acquire() as other:
        world = await new_world(pool, setup)
        job = await world.job(entry=True)
        # What the silence of a series needs: something was delivered, and the contact has a row.
        await world.rows.engagement(world.program, world.contacts[job], score=10)
        await setup.execute("update engagement set first_sent = now()")
        entry = await setup.fetchval("select id from entry")
        await world.rows.mail(world.program, world.contacts[job], "delivered", mail=3, entry_id=entry)
        worker = await world.worker()
        (facts,) = await world.claim(worker)
        yield Fence(world, job, worker, facts, beginner, other)


@pytest.mark.parametrize("disqualify", DISQUALIFIERS, ids=lambda f: f.__name__)
async def test_what_commits_while_begin_is_open_waits_for_its_commit(fence: Fence, disqualify: Disqualify) -> None:
    async with fence.beginner.transaction():
        assert await fence.begin() == 0

        async def run() -> None:
            async with fence.other.transaction():
                await disqualify(fence.other, fence.world, fence.job)

        task = asyncio.create_task(run())
        waited = await fence.blocked_or_done(fence.other, task)
    await task

    assert waited


@pytest.mark.parametrize("disqualify", DISQUALIFIERS, ids=lambda f: f.__name__)
async def test_what_commits_while_begin_waits_for_a_row_is_seen(fence: Fence, disqualify: Disqualify) -> None:
    async with fence.world.pool.acquire() as holder, holder.transaction():
        await holder.execute("select from lane where id = $1 for update", fence.world.lane.id)
        begin = fence.begin()
        assert await fence.blocked_or_done(fence.beginner, begin)
        async with fence.other.transaction():
            await disqualify(fence.other, fence.world, fence.job)

    assert await begin is None


@pytest.mark.parametrize("disqualify", DISQUALIFIERS, ids=lambda f: f.__name__)
async def test_what_is_in_flight_when_begin_starts_is_waited_for(fence: Fence, disqualify: Disqualify) -> None:
    async with fence.other.transaction():
        await disqualify(fence.other, fence.world, fence.job)
        begin = fence.begin()
        await fence.blocked_or_done(fence.beginner, begin)

    assert await begin is None


async def test_a_stream_row_inserted_beside_a_suppression_changes_nothing(fence: Fence) -> None:
    """A row that did not exist when begin looked cannot be locked; the gate row can."""
    contact = fence.world.contacts[fence.job]
    async with fence.other.transaction():
        await suppress_address(fence.other, fence.world, fence.job)
        rows = Rows(fence.other)
        stream = await rows.stream("news")
        await fence.other.execute(
            "insert into engagement (stream_id, contact_id, since, round_from) values ($1, $2, now(), now())",
            stream, contact,
        )  # fmt: skip
        begin = fence.begin()
        await fence.blocked_or_done(fence.beginner, begin)

    assert await begin is None
