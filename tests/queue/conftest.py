from collections.abc import AsyncIterator

import pytest

from mtad.base.db import Pool
from tests.queue.world import World, new_world


@pytest.fixture
async def world(pool: Pool) -> AsyncIterator[World]:
    async with pool.acquire() as conn:
        yield await new_world(pool, conn)
