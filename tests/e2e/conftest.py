import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mtad.base.db import open_pool
from mtad.base.migrate import migrate
from mtad.ops.postgres import Postgres
from tests.e2e.place import Place, running_place


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that Postgres may enter, as whom it may run."""
    with tempfile.TemporaryDirectory(prefix="mtad-e2e-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def laid_out() -> Iterator[Path]:
    """What an installation has in its folder `state` once its database is migrated, for others to copy."""
    with tempfile.TemporaryDirectory(prefix="mtad-e2e-") as name:
        Path(name).chmod(0o755)
        with Postgres(Path(name) / "state" / "postgres").using() as url:
            asyncio.run(_migrated(url))
        yield Path(name) / "state"


async def _migrated(url: str) -> None:
    pool = await open_pool(url, most=1)
    await migrate(pool)
    await pool.close()


@pytest.fixture
def prepared(folder: Path, laid_out: Path) -> Path:
    """A folder with a database in it, which `mtad run` need not make: that takes a second, and other tests see it."""
    subprocess.run(["cp", "-a", laid_out, folder], check=True)
    old = folder / "state" / "journal" / "0" / "1.bad"  # was put aside too long ago
    old.parent.mkdir(parents=True)
    old.touch()
    os.utime(old, times=(0, 0))
    return folder


@pytest.fixture
async def place(request: pytest.FixtureRequest, prepared: Path) -> AsyncIterator[Place]:
    async with running_place(prepared, rate=request.param) as place:
        yield place
