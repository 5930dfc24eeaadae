"""What every test may ask for.

Postgres is real: one server a process of the run, the migrated schema as a template, and a
fresh database copied from it for each test that asks (20 ms). `MTAD_TEST_DATABASE`
names another server, e.g. a Postgres 15.

All files of a run are in memory where there is room: a database copied on a disk that
others use as well took up to a second, most of it the kernel's. A test that is about
a disk asks for one.
"""

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from mtad.base.db import Pool, open_pool
from mtad.base.migrate import migrate
from mtad.ops.memory import memory
from mtad.ops.postgres import Postgres
from tests.blocking import Blocked, watching

# Processes of xdist are told that there are 80 columns, and what commands print would depend on it.
os.environ.pop("COLUMNS", None)

# Hundreds of processes are started, and each would compile all that it imports anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How long an example takes is the machine's affair.
settings.register_profile("mtad", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mtad")

MEMORY = Path("/dev/shm")
ROOM = 4 << 30  # bytes; four processes have used one

# No fsync: tests kill processes, not machines, and a process's death loses nothing. A database that comes or
# goes makes Postgres walk through all its buffers, and has nothing that a vacuum could find before it is gone.
SETTINGS = {
    "fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0",
    "shared_buffers": "128MB", "min_wal_size": "32MB", "max_wal_size": "512MB", "autovacuum": "off",
    "track_commit_timestamp": "on",
}  # fmt: skip

# What takes longest comes first, or one process would still be at it when all others are done.
LONGEST = (
    "test_demo.py", "test_peers.py", "test_stress.py", "test_send.py", "test_limits.py", "test_soak.py",
    "test_mixed.py", "test_tracking.py", "test_operate.py", "test_looking.py", "test_browser.py", "test_replay.py",
)  # fmt: skip

TEMPLATE = "mtad_template"
_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    """Let temporary files of this process and all that it starts be in memory, until the run is over."""
    if "PYTEST_XDIST_WORKER" in os.environ or not MEMORY.is_dir():
        return
    if min(shutil.disk_usage(MEMORY).free, memory()) < ROOM:
        return
    folder = tempfile.mkdtemp(prefix="mtad-tests-", dir=MEMORY)
    Path(folder).chmod(0o1777)  # as /tmp is: other users start a Postgres too
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def _watching() -> Iterator[None]:
    with watching():
        yield


@pytest.fixture(autouse=True)
def blocked() -> Iterator[list[str]]:
    """What blocked the loop of a worker; it fails the test, unless the test takes it away."""
    yield Blocked.seen
    found, Blocked.seen[:] = "\n".join(Blocked.seen), []
    assert not found, found


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server, up to and without the database's name."""
    if given := os.environ.get("MTAD_TEST_DATABASE"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="mtad-test-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder) / "pg", settings=SETTINGS)
        server.start()
        try:
            yield server.url
        finally:
            server.stop("immediate")


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    head, query, tail = url.partition("?")
    return head.rsplit("/", 1)[0] + "/" + name + query + tail


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of a database with the schema and nothing in it."""

    async def make() -> None:
        conn = await asyncpg.connect(postgres_url)
        await conn.execute(f"drop database if exists {TEMPLATE}")
        await conn.execute(f"create database {TEMPLATE}")
        await conn.close()
        pool = await open_pool(with_database(postgres_url, TEMPLATE), most=2)
        await migrate(pool)
        await pool.close()

    asyncio.run(make())
    return TEMPLATE


@pytest.fixture
async def database_url(postgres_url: str, template_database: str) -> AsyncIterator[str]:
    """A fresh migrated database of this test's own."""
    name = f"mtad_test_{os.getpid()}_{next(_numbers)}"
    conn = await asyncpg.connect(postgres_url)
    await conn.execute(f"create database {name} template {template_database} strategy file_copy")
    try:
        yield with_database(postgres_url, name)
        deadlocks = await conn.fetchval("select deadlocks from pg_stat_database where datname = $1", name)
        assert deadlocks == 0, f"{deadlocks} deadlocks: somebody locks out of order"
    finally:
        await conn.execute(f"drop database {name} with (force)")
        await conn.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections to a fresh migrated database, as a worker has them."""
    made = await open_pool(database_url, most=8, hot=True)
    try:
        yield made
    finally:
        made.terminate()
