"""What tests of the pipeline may ask for."""

from collections.abc import AsyncIterator

import pytest

from mtad.base.db import Pool
from tests.pipeline.office import FrailPool, Office
from tests.queue.world import new_world


@pytest.fixture
async def office(pool: Pool) -> AsyncIterator[Office]:
    async with pool.acquire() as conn:
        world = await new_world(pool, conn)
        yield Office(world, FrailPool(pool), await world.worker())
