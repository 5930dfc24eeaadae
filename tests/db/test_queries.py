"""Every named query means something on the migrated database, and is asked for by somebody."""

import re
from pathlib import Path

import pytest

from mtad.base.db import Pool
from mtad.base.sqlfiles import queries, sql_root

STAGES = sorted(path.stem for path in (sql_root() / "queries").glob("*.sql"))
CODE = [path for folder in ("mtad", "engine", "tracker") for path in (Path(__file__).parents[2] / folder).rglob("*.py")]


@pytest.mark.parametrize("stage", STAGES)
async def test_every_query_can_be_prepared(pool: Pool, stage: str) -> None:
    wrong = {}
    async with pool.acquire() as conn, conn.transaction():
        for text in queries(stage).values():
            if re.match(r"(--.*\n)*create temporary table", text):  # what the stage's other queries read
                await conn.execute(text)
        for name, text in queries(stage).items():
            try:
                async with conn.transaction():
                    await conn.prepare(text)
            except Exception as error:  # noqa: BLE001 - all that are wrong are told at once
                wrong[name] = str(error)

    assert wrong == {}


@pytest.mark.parametrize("stage", STAGES)
def test_every_query_is_asked_by_somebody(stage: str) -> None:
    code = "\n".join(text for path in CODE if f'queries("{stage}")' in (text := path.read_text()))

    assert [name for name in queries(stage) if f'"{name}"' not in code] == []
