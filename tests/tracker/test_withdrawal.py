"""After an erasure or a withdrawal old mail works as ever, and nothing is left of who clicks it."""

import logging
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.service import fold_signs
from mtad.audience.persons import erase
from mtad.base.config import Config
from mtad.base.db import Pool
from tests.tracker.made import BROWSER, GMAIL, KEYS, World
from tests.tracker.test_tracker import clicked, leaving, segments, serving, until
from tracker import tokens
from tracker.service import Tracker, ripen
from tracker.tokens import Purpose

AGENTS = (BROWSER, GMAIL, "Mozilla/5.0", "curl/8.0", "")


async def everything(pool: Pool) -> dict[str, list[str]]:
    """Every row of every table but the workers' own."""
    tables = await pool.fetch("select tablename from pg_tables where schemaname = 'public' order by 1")
    return {t: [row[0] for row in await pool.fetch(f'select t::text from "{t}" t')] for (t,) in tables if t != "worker"}


async def erased(pool: Pool, folder: Path) -> None:
    key = folder / "keys" / "suppression.key"
    key.parent.mkdir()
    key.write_text(secrets.token_hex(32))
    await erase(pool, Config(domain="example.com", folder=folder), "a@y.test", "test")


async def withdrawn(pool: Pool, _: Path) -> None:
    await pool.execute("update subscription set tracking = 'none'")


async def arrived(world: World) -> None:
    await world.ended(1)


async def in_doubt(world: World) -> None:
    await world.queued(1, doubts=1)


@pytest.mark.parametrize(("how", "mail"), [(erased, arrived), (withdrawn, arrived), (erased, in_doubt)])
async def test_clicks_on_old_mail_redirect_and_leave_no_row_no_record_and_no_line(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    how: Callable[[Pool, Path], Awaitable[None]], mail: Callable[[World], Awaitable[None]],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("tracker.writer.MAX_AGE", 0.0)  # what is ingested leaves the disk at once
    world = await World(pool).seed(settle=0.0)
    await mail(world)
    worker = await world.worker()
    await how(pool, tmp_path)
    before = await everything(pool)
    pixels = [
        tokens.pixel_url("", tokens.link_token(KEYS, purpose, 1, world.pixel))
        for purpose in (Purpose.OPEN, Purpose.HYGIENE)
    ]

    async with serving(pool, tmp_path, worker=worker, sites=["a.test"]) as (http, tracker):
        await until(lambda: loaded(tracker))
        handed_over = ""
        for agent in AGENTS:
            for method in ("GET", "HEAD"):
                for path in pixels:
                    async with http.request(method, path, headers={"User-Agent": agent}) as answer:
                        assert answer.status == 200
                for link, url in zip(world.links, ("https://a.test/", "https://b.test/?x=1&y=%20"), strict=False):
                    async with http.request(
                        method, clicked(1, link), headers={"User-Agent": agent}, allow_redirects=False
                    ) as answer:
                        location, _, token = answer.headers["Location"].partition("?mtad=")
                        assert (answer.status, location) == (302, url)
                        handed_over = token or handed_over
            async with http.get(leaving(world), headers={"User-Agent": agent}) as answer:
                assert answer.status == 200
        # Any click hands over a token, for whose it is nobody is asked; a site of ours gets nothing for it.
        said = {"url": "https://a.test/", "token": handed_over, "consent": True}
        async with http.post("/v", json=said, headers={"Origin": "https://a.test"}) as answer:
            assert answer.status == 204
        await until(lambda: nothing_in(tmp_path))
        await until(lambda: nothing_waits(pool))

    assert await everything(pool) == before
    assert handed_over
    for name in ("a@y.test", BROWSER, handed_over, leaving(world).removeprefix("/u/"), clicked(1, world.links[0])):
        assert name not in caplog.text


async def test_who_was_erased_and_leaves_again_is_answered_and_leaves_no_row(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.writer.MAX_AGE", 0.0)
    world = await World(pool).seed(settle=0.0)
    await world.ended(1)
    await erased(pool, tmp_path)
    before = await everything(pool)

    async with serving(pool, tmp_path) as (http, _):
        async with http.post(leaving(world), data={"List-Unsubscribe": "One-Click"}) as answer:
            assert answer.status == 200
        await until(lambda: nothing_in(tmp_path))

    assert await everything(pool) == before


async def loaded(tracker: Tracker) -> bool:
    return tracker.links.loaded


async def nothing_in(state: Path) -> bool:
    return not segments(state)


async def nothing_waits(pool: Pool) -> bool:
    await ripen(pool, fold_signs)
    return not await pool.fetchval("select count(*) from (select from pending union all select from visit) waiting")


async def test_clicks_of_whoever_may_be_counted_leave_a_count_and_no_more(pool: Pool, tmp_path: Path) -> None:
    world = await World(pool).seed(settle=0.0)
    await world.ended(1)
    await pool.execute("update subscription set tracking = 'aggregate'")
    worker = await world.worker()
    before = await everything(pool)

    async with serving(pool, tmp_path, worker=worker) as (http, tracker):
        await until(lambda: loaded(tracker))
        async with http.get(clicked(1, world.links[0]), allow_redirects=False) as answer:
            assert answer.status == 302
        await until(lambda: counted(pool))

    after = await everything(pool)
    assert {table for table in after if after[table] != before[table]} == {"hit_count", "hit_counted"}
    assert [row[0] for row in await pool.fetch("select n from hit_count")] == [1]


async def counted(pool: Pool) -> bool:
    await ripen(pool, fold_signs)
    return bool(await pool.fetchval("select count(*) from hit_count"))
