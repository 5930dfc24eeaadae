from collections.abc import AsyncIterator

import pytest

from mtad.base.db import Pool
from tests.programs.theatre import EXAMPLES, Theatre


@pytest.fixture
async def theatre(pool: Pool) -> AsyncIterator[Theatre]:
    """The stream of the examples, with nobody on it."""
    async with pool.acquire() as conn:
        yield await Theatre.open(pool, conn, EXAMPLES / "courses.toml")
