"""A Postgres of one's own, and databases in it with a queue of any depth (backlog.sql)."""

import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import msgspec

from mtad.base.db import Connection, Pool, open_pool
from mtad.base.migrate import migrate
from mtad.ops.postgres import Postgres
from mtad.queue import store

# The share of lanes that are closed; they hold half of the jobs.
CLOSED = 0.05

# A fill of 10 million rows is one statement of some minutes.
_PATIENCE = 1800.0

_HERE = Path(__file__).parent
_FILL = (_HERE / "backlog.sql").read_text(encoding="utf-8")
_ARRIVE = (_HERE / "arrivals.sql").read_text(encoding="utf-8")


class Backlog(msgspec.Struct, frozen=True):
    """`rows` jobs for `contacts` people, an even number, over `lanes` lanes; the newest `due` of open lanes are due."""

    rows: int
    lanes: int
    contacts: int
    due: int
    seed: int = 1

    @property
    def closed(self) -> int:
        """Lanes that are closed, at least one."""
        return max(1, round(self.lanes * CLOSED))

    @property
    def arrivals(self) -> int:
        """The program of what arrives later."""
        return 1 + -(-self.rows // self.contacts)


@contextlib.contextmanager
def serving() -> Iterator[Postgres]:
    """An empty embedded Postgres with fsync on, inside the block."""
    with tempfile.TemporaryDirectory(prefix="mtad-bench-", ignore_cleanup_errors=True) as name:
        # Started by root, Postgres runs as `nobody`, who has to pass through here.
        os.chmod(name, 0o711)  # noqa: PTH101 - as in benchmarks/place.py
        server = Postgres(Path(name) / "postgres")
        with server.using():
            yield server


@contextlib.asynccontextmanager
async def filled(server: Postgres, name: str, backlog: Backlog) -> AsyncIterator[tuple[str, float]]:
    """The URL of a database with this backlog inside the block, and the seconds that it took to fill."""
    began = time.perf_counter()
    async with _connected(server.url) as pool:
        await pool.execute(f"create database {name}")
    url = server.url.replace("/mtad?", f"/{name}?")
    try:
        async with _connected(url) as pool:
            await migrate(pool)
            async with pool.acquire() as conn:
                await fill(conn, backlog)
        yield url, time.perf_counter() - began
    finally:
        async with _connected(server.url) as pool:
            await pool.execute(f"drop database {name} with (force)", timeout=_PATIENCE)


async def version_of(server: Postgres) -> str:
    """What the server says it is."""
    async with _connected(server.url) as pool:
        return str(await pool.fetchval("show server_version"))


async def fill(conn: Connection, backlog: Backlog) -> None:
    """Rows, indexes, hints; vacuumed and written to disk, so that what follows meets a steady state."""
    await conn.execute("set statement_timeout = 0")
    for key, value in (
        ("rows", backlog.rows), ("contacts", backlog.contacts), ("lanes", backlog.lanes),
        ("closed", backlog.closed), ("due", backlog.due), ("seed", backlog.seed % 1000 / 1000),
    ):  # fmt: skip
        await conn.execute("select set_config($1, $2, false)", f"backlog.{key}", str(value))
    await conn.execute(_FILL, timeout=_PATIENCE)
    await store.refresh_hints(conn)
    for statement in ("vacuum analyze", "checkpoint"):
        await conn.execute(statement, timeout=_PATIENCE)
    await conn.execute("reset statement_timeout")


class Arrivals:
    """New jobs for old, so that a queue keeps its depth.

    The people of a lane come one after the other in the order of their ids, all lanes
    abreast, as when a campaign is enqueued: neighbours in the queue are neighbours in
    the tables of contacts. People drawn at random would measure how many contacts fit
    into Postgres' memory instead of the queue's depth.
    """

    def __init__(self, backlog: Backlog, first: int) -> None:
        """`first`: where among the people of every lane to begin, any number."""
        self._backlog = backlog
        self._open = backlog.lanes - backlog.closed
        self._people = max(1, backlog.contacts // 2 // self._open)
        self._next: dict[int, int] = dict.fromkeys(range(backlog.closed + 1, backlog.lanes + 1), first)

    async def bring(self, conn: Connection, sites: Sequence[int]) -> None:
        """One job, due now, for each of these sites; hints as enqueue leaves them."""
        contacts = sorted((self._contact(site), site) for site in sites)
        await conn.execute(_ARRIVE, *zip(*contacts, strict=True), self._backlog.arrivals)
        await store.wake_sites(conn, sorted(set(sites)))

    def _contact(self, site: int) -> int:
        """The next one of an open lane, as backlog.sql numbers them."""
        self._next[site] += 1
        return 2 * (site - self._backlog.closed - 1 + self._open * (self._next[site] % self._people)) + 2


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(url, most=1, name="benchmark", least=0)
    try:
        yield pool
    finally:
        pool.terminate()
