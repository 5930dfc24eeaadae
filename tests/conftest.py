"""What every test may ask for.

Postgres is real: one server a test run, the migrated schema as a template, and a
fresh database copied from it for each test that asks (30 ms). `MTAD_TEST_DATABASE`
names another server, e.g. a Postgres 15.
"""

import asyncio
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from mtad.base.db import Pool, open_pool
from mtad.base.migrate import migrate
from mtad.ops.postgres import Postgres

# Processes of xdist are told that there are 80 columns, and what commands print would depend on it.
os.environ.pop("COLUMNS", None)

TEMPLATE = "mtad_template"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server, up to and without the database's name."""
    if given := os.environ.get("MTAD_TEST_DATABASE"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="mtad-test-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        # No fsync: tests kill processes, not machines, and a process's death loses nothing.
        server = Postgres(Path(folder) / "pg", settings={"fsync": "off", "full_page_writes": "off"})
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
    """Connections to a fresh migrated database."""
    made = await open_pool(database_url, most=8)
    try:
        yield made
    finally:
        made.terminate()
