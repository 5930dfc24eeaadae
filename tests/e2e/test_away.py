"""Recipients are served by whoever starts while there is no database, and what they did is done once, later."""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from mtad.base.config import Config, load_config
from mtad.base.db import Pool
from mtad.compose.preview import tracking_keys
from mtad.lab.installation import free_port
from mtad.ops.install import install
from mtad.ops.parent import DATABASE_VARIABLE
from tests.e2e.place import FIREFOX
from tests.tracker.made import World
from tests.tracker.test_tracker import until
from tracker import store
from tracker.links import FOLDER, write_snapshot
from tracker.tokens import Purpose, click_url, contact_token, link_token, unsubscribe_url


class Way:
    """A port on loopback that leads to a database as long as it is open."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self._host = asked.get("host", parts.hostname or "127.0.0.1")
        self._to = int(asked.get("port", parts.port or 5432))
        self._port = free_port()
        self.url = f"postgresql://{parts.netloc.partition('@')[0]}@127.0.0.1:{self._port}{parts.path}"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._lead, "127.0.0.1", self._port):
            yield

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._host.startswith("/"):
            there = await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._to}")
        else:
            there = await asyncio.open_connection(self._host, self._to)
        await asyncio.gather(_pass_on(reader, there[1]), _pass_on(there[0], writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Used:
    """An installation that has sent mail: its links are known here."""

    def __init__(self, folder: Path, database: str, world: World) -> None:
        self.config_path = install(folder, "example.com", "m202611").config
        self.listen = f"127.0.0.1:{free_port()}"
        text = self.config_path.read_text().replace('# url = "embedded"', f'url = "{database}"')
        self.config_path.write_text(text.replace('# listen = "127.0.0.1:8025"', f'listen = "{self.listen}"'))
        self.config: Config = load_config(self.config_path)
        keys = tracking_keys(self.config)
        self.click = click_url("", link_token(keys, Purpose.CLICK, 1, world.links[0]))
        self.way_out = unsubscribe_url("", contact_token(keys, world.contact, world.program))

    async def know_links(self, pool: Pool) -> None:
        links = dict(await store.links(pool, 0, [], 100))
        await asyncio.to_thread(write_snapshot, self.config.state / FOLDER / "0.links", links)

    async def until_it_serves(self, http: aiohttp.ClientSession, process: "asyncio.subprocess.Process") -> None:
        async def serves() -> bool:
            assert process.returncode is None
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with http.get("/healthz") as answer:
                    return answer.status == 200
            return False

        await until(serves)

    async def clicked(self, http: aiohttp.ClientSession) -> str:
        async with http.get(self.click, allow_redirects=False) as answer:
            assert answer.status == 302
            return answer.headers["Location"]


def only_child(pid: int) -> int:
    """The process that this one has started."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.fixture
async def world(pool: Pool) -> World:
    world = await World(pool).seed(settle=0.0)
    await world.ended(1)
    return world


async def test_started_without_its_database_it_serves_and_what_people_did_is_done_once_when_that_is_there(
    tmp_path: Path, database_url: str, pool: Pool, world: World
) -> None:
    way = Way(database_url)
    used = Used(tmp_path / "mail", way.url, world)
    await used.know_links(pool)
    await pool.execute("insert into schema_version (version) values (99)")
    log_path = tmp_path / "log"
    with log_path.open("wb") as log:
        daemon = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mtad", "run", "--config", str(used.config_path), "--workers=1", "--roles=tracker",
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        async with aiohttp.ClientSession(f"http://{used.listen}", headers=FIREFOX) as http:
            await used.until_it_serves(http, daemon)
            assert await used.clicked(http) == "https://a.test/"
            async with http.post(used.way_out, data={"List-Unsubscribe": "One-Click"}) as answer:
                assert answer.status == 503
            os.kill(only_child(daemon.pid), signal.SIGKILL)
        async with aiohttp.ClientSession(f"http://{used.listen}", headers=FIREFOX) as http:
            await used.until_it_serves(http, daemon)
            assert await used.clicked(http) == "https://a.test/"
        assert await world.subscription() == "subscribed"

        async with way.open():
            # One of another schema is no better than none: nothing is written there.
            async def refused() -> bool:
                return "the database is at schema 99" in log_path.read_text()

            await until(refused)
            async with (
                aiohttp.ClientSession(f"http://{used.listen}", headers=FIREFOX) as http,
                http.post(used.way_out, data={"List-Unsubscribe": "One-Click"}) as answer,
            ):
                assert answer.status == 503
            assert await pool.fetchval("select count(*) from pending") == 0
            await pool.execute("delete from schema_version where version = 99")
            await until(lambda: pool.fetchval("select count(*) = 2 from pending where kind = 'click'"))
            await until(lambda: pool.fetchval("select status = 'unsubscribed' from subscription"))
            daemon.terminate()

            assert await daemon.wait() == 0, log_path.read_text()
        assert await pool.fetchval("select count(*) from pending") == 2
        assert await pool.fetchval("select count(*) from event where kind = 'unsubscribe'") == 2
        assert log_path.read_text().count("recipients are served without the database") == 1
    finally:
        if daemon.returncode is None:
            daemon.kill()
            await daemon.wait()


async def test_a_worker_serves_while_somebody_still_starts_the_embedded_database(
    folder: Path, pool: Pool, world: World
) -> None:
    used = Used(folder, "embedded", world)
    await used.know_links(pool)
    postgres = used.config.state / "postgres"
    postgres.mkdir()
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        socket.create_server(("127.0.0.1", 0)) as listener,
        (postgres / "users").open("wb") as users,
        (postgres / "lock").open("wb") as starting,
    ):
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_EX)
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mtad.worker", f"--config={used.config_path}", "--slot=0", "--roles=tracker",
            f"--tracker-fd={listener.fileno()}", f"--parent-fd={theirs.fileno()}",
            pass_fds=[listener.fileno(), theirs.fileno()],
            env={**os.environ, DATABASE_VARIABLE: f"postgresql://postgres@/mtad?host={postgres / 'socket'}"},
        )  # fmt: skip
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.getsockname()[1]}", headers=FIREFOX) as http:
                await used.until_it_serves(http, worker)
                assert await used.clicked(http) == "https://a.test/"
        finally:
            worker.terminate()
            assert await worker.wait() == 0
