"""The queries against the migrated schema."""

import re

import msgspec
import pytest

from engine import past, store
from mtad.base.db import Pool


async def test_queries_fit_the_schema(pool: Pool) -> None:
    async with pool.acquire() as conn:
        for query in (*store.SQL.values(), *past.SQL.values()):
            await conn.prepare(query)


@pytest.mark.parametrize(("name", "struct"), [("take_hits", store.Taken), ("ended_ways", store.EndedWay)])
async def test_query_fills_its_struct(name: str, struct: type[msgspec.Struct], pool: Pool) -> None:
    async with pool.acquire() as conn:
        columns = (await conn.prepare(store.SQL[name])).get_attributes()

    assert len(columns) == len(struct.__struct_fields__)


async def test_a_backlog_is_not_sorted_for_each_batch_of_it(pool: Pool) -> None:
    """Nor is the queue read for what is in the ledger, even by a plan made while it was empty."""
    await pool.execute(
        "insert into pending (event_id, job_id, kind, link_id, at, method, agent, class)"
        " select gen_random_uuid(), n, 'click', 1, now(), 'GET', '', 'human' from generate_series(1, 50000) n"
    )
    await pool.execute("analyze pending")
    await pool.execute("vacuum analyze job")
    async with pool.acquire() as conn:
        text = "\n".join([row[0] for row in await conn.fetch(f"explain {store.SQL['take_hits']}")])

    assert "pending_judged_idx" in text
    assert "Sort Key: p." not in text
    assert re.search(r"One-Time Filter: \(l\S*\.ended IS NULL\)\n\s+-> .* on job", text), text
