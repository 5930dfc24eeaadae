"""Imports beside each other and beside the work of the server."""

import asyncio
from pathlib import Path

import pytest

from engine.service import Suppress, suppress
from mtad.audience import store
from mtad.audience.rows import Contact
from mtad.audience.service import Options, import_contacts
from mtad.base.db import Connection, Pool
from tests.audience.conftest import CONSENT, NOW, Importer


async def test_rows_have_the_columns_of_the_temporary_table(pool: Pool) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await store.begin_import(conn)
        columns = await conn.fetch(
            "select attname from pg_attribute where attrelid = 'incoming'::regclass and attnum > 0 order by attnum"
        )

    assert [row[0] for row in columns] == [*Contact.__struct_fields__, "held"]


async def test_two_imports_of_the_same_people_do_not_disturb_each_other(load: Importer, tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.csv" for n in range(4)]
    for n, path in enumerate(paths):
        rows = [f"p{i}@x{i % 7}.test,{n}" for i in range(300)]
        path.write_text("email,n\n" + "\n".join(rows[:: 1 if n % 2 else -1]))

    options = Options(stream="news", basis="consent", source="form")

    done = await asyncio.gather(
        *(import_contacts(load.pool, p, options, now=NOW, progress=lambda *_: None) for p in paths)
    )

    assert sorted(summary.made for summary in done) == [0, 0, 0, 300]
    assert await load.column("select count(distinct attributes) from contact") == [1]


async def test_suppression_during_an_import_is_not_lost_and_nobody_deadlocks(
    load: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load("email,n\n" + "".join(f"p{n}@x.test,1\n" for n in range(50)), **CONSENT)
    suppressing: list[asyncio.Task[None]] = []
    change = store.change_contacts

    async def suppress_all() -> None:
        async with load.pool.acquire() as conn, conn.transaction():
            await suppress(conn, [Suppress(f"p{n}@x.test", "all", "manual", "t") for n in reversed(range(50))])

    async def change_then_meet(conn: Connection) -> int:
        changed = await change(conn)
        suppressing.append(asyncio.create_task(suppress_all()))
        async with load.pool.acquire() as other:
            while not await other.fetchval("select count(*) from pg_locks where not granted"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # Postgres does not signal that somebody waits
        return changed

    monkeypatch.setattr(store, "change_contacts", change_then_meet)
    await load("email,n\n" + "".join(f"p{n}@x.test,2\n" for n in range(50)), **CONSENT)
    await suppressing[0]

    assert await load.column("select count(*) from suppression where released is null") == [50]
    assert await load.column("select distinct version from gate") == [3]
