"""The tracker as a whole: real server, real journal, real Postgres."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from engine.service import unsubscribe as leave
from mtad.base.clock import SystemClock
from mtad.base.db import Connection, Pool, open_pool
from tests.tracker import made
from tests.tracker.made import BROWSER, KEYS, World, hit
from tests.tracker.outside import served
from tracker import store, tokens
from tracker.bearer import EventKeys
from tracker.hits import Hit
from tracker.ingest import Unsubscribe
from tracker.journal import encode
from tracker.occurrences import Offer, offered_to_nobody
from tracker.service import Tracker, ripen
from tracker.store import Sign
from tracker.tokens import Purpose


@asynccontextmanager
async def serving(
    pool: Pool,
    state: Path,
    *,
    slot: int = 0,
    worker: int | None = None,
    unsubscribe: Unsubscribe | None = None,
    event_keys: EventKeys | None = None,
    sites: Sequence[str] = (),
    offer: Offer = offered_to_nobody,
) -> AsyncIterator[tuple[aiohttp.ClientSession, Tracker]]:
    """One worker's tracker on a port of its own, with a browser for it."""
    tracker = Tracker(
        pool=pool,
        keys=KEYS,
        state=state,
        slot=slot,
        worker=lambda: worker,
        unsubscribe=unsubscribe or partial(leave, pool),
        trusted_proxies=[],
        clock=SystemClock(),
        event_keys=event_keys,
        sites=sites,
        offer=offer,
    )
    task = asyncio.create_task(tracker.run())
    try:
        async with (
            served(tracker.app()) as base,
            aiohttp.ClientSession(base, headers={"User-Agent": BROWSER}) as http,
        ):
            await until(tracker.journal.owned.wait)
            yield http, tracker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(truth: Callable[[], Awaitable[object]]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(20):
        while not await truth():  # noqa: ASYNC110 - it happens in files and in Postgres
            await asyncio.sleep(0.01)


def clicked(job: int, link: int) -> str:
    return tokens.click_url("", tokens.link_token(KEYS, Purpose.CLICK, job, link))


def leaving(world: World) -> str:
    return tokens.unsubscribe_url("", tokens.contact_token(KEYS, world.contact, world.program))


async def one_click(http: aiohttp.ClientSession, path: str) -> int:
    async with http.post(path, data={"List-Unsubscribe": "One-Click"}, allow_redirects=False) as answer:
        return answer.status


def segments(state: Path) -> list[Path]:
    return sorted((state / "journal").rglob("*.journal"))


def write_segment(state: Path, slot: str, hits: list[Hit], tail: bytes = b"") -> Path:
    """What a worker left behind when it was killed."""
    folder = state / "journal" / slot
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "0000000001.journal"
    path.write_bytes(b"".join(map(encode, hits)) + tail)
    return path


@pytest.fixture
async def world(pool: Pool) -> World:
    return await World(pool).seed(settle=0.0)


async def test_a_click_becomes_a_persons_point_to_fold(pool: Pool, world: World, tmp_path: Path) -> None:
    await world.ended(1)
    worker = await world.worker()
    async with serving(pool, tmp_path, worker=worker) as (http, _):
        async with http.get(clicked(1, world.links[0]), allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (302, "https://a.test/")

        await until(lambda: ripen(pool))
    assert await world.earning() == ["human"]


async def test_a_burst_over_two_workers_earns_nothing(pool: Pool, tmp_path: Path) -> None:
    world = await World(pool).seed(settle=1.5, urls=tuple(f"https://{n}.test/" for n in range(6)))
    await world.ended(1)
    first, second = await world.worker(), await world.worker()
    async with (
        serving(pool, tmp_path, slot=0, worker=first) as (left, _),
        serving(pool, tmp_path, slot=1, worker=second) as (right, _),
    ):
        await until(partial(loaded, left))
        await until(partial(loaded, right))
        for n, link in enumerate(world.links[:5]):
            http = (left, right)[n % 2]
            async with http.get(clicked(1, link), allow_redirects=False) as answer:
                assert answer.status == 302

        assert len({path.parent for path in segments(tmp_path)}) == 2
        await until(lambda: ripen(pool))
    assert await world.classes() == ["scanner"] * 5
    assert await world.earning() == []


async def loaded(http: aiohttp.ClientSession) -> bool:
    async with http.get("/healthz") as answer:
        return answer.status == 200


async def test_clicks_redirect_without_a_database_even_after_a_restart(
    pool: Pool, database_url: str, world: World, tmp_path: Path
) -> None:
    await world.ended(1)
    own = await open_pool(database_url, most=2)
    async with serving(own, tmp_path) as (http, _):
        await until(partial(loaded, http))
        await until(lambda: asyncio.sleep(0, list((tmp_path / "links").glob("*.links"))))
        own.terminate()
        assert await redirected(http, clicked(1, world.links[0]))

    async with serving(own, tmp_path, slot=1) as (http, _):
        await until(partial(loaded, http))
        assert await redirected(http, clicked(1, world.links[1]))

    assert await world.classes() == []
    async with serving(pool, tmp_path):
        await until(lambda: asyncio.sleep(0, not segments(tmp_path)))
    assert await world.classes() == [None, None]


async def redirected(http: aiohttp.ClientSession, path: str) -> bool:
    async with http.get(path, allow_redirects=False) as answer:
        return answer.status == 302


async def test_one_click_is_in_force_when_it_is_answered_and_once(pool: Pool, world: World, tmp_path: Path) -> None:
    async with serving(pool, tmp_path) as (http, _):
        assert await one_click(http, leaving(world)) == 200
        assert await world.subscription() == "unsubscribed"
        assert await one_click(http, leaving(world)) == 200
    version = await pool.fetchval("select version from gate")

    async with serving(pool, tmp_path):
        await until(lambda: asyncio.sleep(0, not segments(tmp_path)))
    assert await pool.fetchval("select count(*) from event where kind = 'unsubscribe'") == 2
    assert await pool.fetchval("select version from gate") == version


async def test_an_unsubscribe_that_met_no_database_is_in_force_later(
    pool: Pool, database_url: str, world: World, tmp_path: Path
) -> None:
    own = await open_pool(database_url, most=2)
    async with serving(own, tmp_path) as (http, _):
        own.terminate()
        assert await one_click(http, leaving(world)) == 503
    assert await world.subscription() == "subscribed"

    async with serving(pool, tmp_path):
        await until(lambda: asyncio.sleep(0, not segments(tmp_path)))
    assert await world.subscription() == "unsubscribed"


async def test_a_journal_read_again_does_not_undo_a_new_subscription(pool: Pool, world: World, tmp_path: Path) -> None:
    left = made.unsubscribe(world.contact, world.program)
    for _ in range(2):
        write_segment(tmp_path, "0", [left])
        async with serving(pool, tmp_path):
            await until(lambda: asyncio.sleep(0, not segments(tmp_path)))
        await pool.execute("update subscription set status = 'subscribed'")

    assert await world.subscription() == "subscribed"
    assert await pool.fetchval("select count(*) from event") == 1


async def test_looking_changes_no_consent(pool: Pool, world: World, tmp_path: Path) -> None:
    async with serving(pool, tmp_path) as (http, _):
        for method in ("GET", "HEAD"):
            async with http.request(method, leaving(world)) as answer:
                assert answer.status == 200
        await until(lambda: pool.fetchval("select count(*) = 2 from event where kind = 'unsubscribe_page'"))
    assert await world.subscription() == "subscribed"
    assert await pool.fetchval("select version from gate") == 1


@pytest.mark.parametrize("slot", ["0", "7", "7.1"])
async def test_what_a_killed_worker_left_is_ingested_once_up_to_its_torn_record(
    pool: Pool, world: World, tmp_path: Path, slot: str
) -> None:
    await world.ended(1)
    hits = [hit(link=world.links[0], at=60 + n * 10) for n in range(2500)]
    torn = encode(hit(link=world.links[1]))
    folded = 0

    async def folding(_conn: Connection, _signs: Sequence[Sign]) -> None:
        """All that is judged is folded."""

    for _ in range(2):  # the same journal again, as after a crash before its deletion
        path = write_segment(tmp_path, slot, hits, torn[: len(torn) // 2])
        async with serving(pool, tmp_path):
            await until(lambda path=path: asyncio.sleep(0, not path.exists()))  # type: ignore[misc]
        folded += await ripen(pool, folding)

    assert folded == 2500
    assert await pool.fetchval("select count(*) from event") == 2500
    assert await pool.fetchval("select count(*) from pending") == 0


async def test_the_watermark_waits_for_what_is_not_yet_in_the_database(
    pool: Pool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.ended(1)
    worker = await world.worker()
    stuck, free = asyncio.Event(), asyncio.Event()
    real = os.fdatasync
    loop = asyncio.get_running_loop()

    def slow(fd: int) -> None:
        loop.call_soon_threadsafe(stuck.set)
        asyncio.run_coroutine_threadsafe(free.wait(), loop).result()
        real(fd)

    async with serving(pool, tmp_path, worker=worker) as (http, tracker):
        await until(lambda: pool.fetchval("select ingested_until > '-infinity' from worker"))
        monkeypatch.setattr(os, "fdatasync", slow)
        asking = asyncio.create_task(redirected(http, clicked(1, world.links[0])))
        await stuck.wait()
        at = tracker.journal.complete_until(SystemClock().now())

        assert not asking.done()
        assert await pool.fetchval("select ingested_until <= $1 from worker", at)
        free.set()
        assert await asking
        await until(lambda: pool.fetchval("select ingested_until > $1 from worker", at))
        assert await world.classes() == [None]


async def test_the_watermark_waits_for_what_the_dead_left_and_for_nobody_who_has_finished(
    pool: Pool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.ended(1)
    worker = await world.worker()
    left = write_segment(tmp_path, "7", [hit(link=world.links[0])])
    unread: list[bool] = []
    say = store.set_ingested_until

    async def said(conn: Connection, worker: int, at: datetime) -> None:
        unread.append(left.exists())
        await say(conn, worker, at)

    monkeypatch.setattr(store, "set_ingested_until", said)
    async with serving(pool, tmp_path, worker=worker) as (http, tracker):
        assert await redirected(http, clicked(1, world.links[1]))
        await tracker.finish()

        assert await pool.fetchval("select count(*) from pending") == 2
        assert not any(unread)
    await pool.execute("update worker set dead = now()")
    assert await pool.fetchval("select count(*) from unread") == 0


async def test_a_defect_in_one_unsubscribe_neither_blocks_nor_loses(
    pool: Pool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.ingest.REST", 0.0)
    left = made.unsubscribe(world.contact, world.program)
    path = write_segment(tmp_path, "0", [left, hit(link=world.links[0])])
    late: set[object] = set()
    broken = True

    async def sometimes(**what: object) -> bool:
        late.add(what["late"])
        if broken:
            raise ValueError("a defect")
        return await leave(pool, **what)  # type: ignore[arg-type]

    async with serving(pool, tmp_path, unsubscribe=sometimes):
        await until(lambda: pool.fetchval("select count(*) = 1 from pending where kind = 'click'"))
        assert path in segments(tmp_path)
        broken = False
        await until(lambda: asyncio.sleep(0, not path.exists()))
    assert (await world.subscription(), late) == ("unsubscribed", {True})


async def test_an_unsubscribe_of_nobody_is_not_tried_for_ever(pool: Pool, world: World, tmp_path: Path) -> None:
    write_segment(tmp_path, "0", [made.unsubscribe(contact, world.program) for contact in (0, 999_999)])

    async with serving(pool, tmp_path):
        await until(lambda: asyncio.sleep(0, not segments(tmp_path)))
    assert await pool.fetchval("select count(*) from event") == 0
