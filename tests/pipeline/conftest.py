"""What tests of the pipeline may ask for."""

from collections.abc import AsyncIterator

import pytest

from mtad.base.db import Pool
from tests.pipeline.office import FrailPool, Office
from tests.pipeline.receiver import Receiver
from tests.queue.world import World, new_world


@pytest.fixture
async def world(pool: Pool) -> AsyncIterator[World]:
    async with pool.acquire() as conn:
        yield await new_world(pool, conn)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as open_:
        yield open_


@pytest.fixture
async def office(pool: Pool, world: World) -> Office:
    return Office(world, FrailPool(pool), await world.worker())
