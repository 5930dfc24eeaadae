"""The queries against the migrated schema."""

import msgspec
import pytest

from engine import store
from mtad.base.db import Pool


async def test_queries_fit_the_schema(pool: Pool) -> None:
    async with pool.acquire() as conn:
        for query in store.SQL.values():
            await conn.prepare(query)


@pytest.mark.parametrize(("name", "struct"), [("take_hits", store.Taken), ("ended_ways", store.EndedWay)])
async def test_query_fills_its_struct(name: str, struct: type[msgspec.Struct], pool: Pool) -> None:
    async with pool.acquire() as conn:
        columns = (await conn.prepare(store.SQL[name])).get_attributes()

    assert len(columns) == len(struct.__struct_fields__)
