from collections.abc import AsyncIterator

import pytest

from mtad.base.db import Pool
from tests.engine.world import World


@pytest.fixture
async def world(pool: Pool) -> AsyncIterator[World]:
    async with pool.acquire() as conn:
        yield World(pool, conn)
