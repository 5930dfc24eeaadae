import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.place import Place, running_place


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that Postgres may enter, as whom it may run."""
    with tempfile.TemporaryDirectory(prefix="mtad-e2e-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def place(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Place]:
    async with running_place(folder, rate=request.param) as place:
        yield place
