"""A connection and the rows on it."""

from collections.abc import AsyncIterator

import pytest

from mtad.base.db import Connection, Pool
from tests.rows import Rows


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as acquired:
        yield acquired


@pytest.fixture
def rows(conn: Connection) -> Rows:
    return Rows(conn)
