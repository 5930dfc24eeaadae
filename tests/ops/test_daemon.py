"""`mtad run` as a process: what it refuses, and how it ends. The workers are fakes."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import mkdtemp

import asyncpg
import pytest

from mtad.base.clock import SystemClock
from mtad.base.config import load_config
from mtad.base.db import Pool
from mtad.base.errors import DatabaseAway, Problem
from mtad.base.migrate import require_schema
from mtad.ops.daemon import _database, _migrate_later, is_running
from mtad.ops.install import install
from mtad.ops.postgres import Postgres
from tests.conftest import with_database
from tests.ops.test_supervisor import FAKE, until

PROGRAM = """
import sys
from pathlib import Path
from mtad.base.config import load_config
from mtad.base.errors import Problem
from mtad.base.log import set_up_logging
from mtad.ops.daemon import run_daemon

config, fake, notes = map(Path, sys.argv[1:4])
set_up_logging("logfmt")
try:
    sys.exit(run_daemon(load_config(config), config, workers=1, roles=["tracker"],
                        command=[sys.executable, "-SE", str(fake), "good", str(notes)]))
except Problem as problem:
    sys.stderr.write(f"mtad: {problem}\\n")
    sys.exit(problem.exit_code)
"""


class Installed:
    """A folder of `mtad init`, with a database by URL and a free port."""

    def __init__(self, folder: Path, database: str, listen: str = "127.0.0.1:0") -> None:
        self.folder = folder
        self.config = install(folder, "example.com", "m202611").config
        self.notes = folder / "notes"
        self.notes.mkdir()
        text = self.config.read_text()
        text = text.replace('# url = "embedded"', f'url = "{database}"')
        self.config.write_text(text.replace('# listen = "127.0.0.1:8025"', f'listen = "{listen}"'))

    def know_links(self) -> None:
        (self.folder / "state" / "links").mkdir(parents=True)
        (self.folder / "state" / "links" / "0.links").touch()

    async def start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, str(self.config), str(FAKE), str(self.notes),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def refused(self) -> tuple[int, str]:
        process = await self.start()
        _, said = await process.communicate()
        return process.returncode or 0, said.decode()

    def noted(self, event: str) -> list[Path]:
        return list(self.notes.glob(f"{event}.*"))


@contextlib.asynccontextmanager
async def running(installed: Installed) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await installed.start()
    try:
        await until(lambda: installed.noted("ready") or process.returncode is not None)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_runs_until_sigterm_and_hands_over_the_database(tmp_path: Path, database_url: str) -> None:
    installed = Installed(tmp_path / "mail", database_url)
    async with running(installed) as process:
        assert is_running(tmp_path / "mail" / "state")
        process.send_signal(signal.SIGTERM)

        assert await process.wait() == 0
    assert [path.read_text() for path in installed.noted("started")] == [database_url]
    assert len(installed.noted("drained")) == 1
    assert not is_running(tmp_path / "mail" / "state")


async def test_a_port_in_use_is_one_line_and_69(tmp_path: Path, database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        installed = Installed(tmp_path / "mail", database_url, listen=address)

        code, said = await installed.refused()

    assert said == f"mtad: tracker.listen: cannot listen on {address}: another program listens there already\n"
    assert code == 69
    assert installed.noted("started") == []


async def test_a_second_one_in_the_same_state_folder_is_refused(tmp_path: Path, database_url: str) -> None:
    installed = Installed(tmp_path / "mail", database_url)
    async with running(installed):
        code, said = await installed.refused()

    assert code == 69
    assert said == f"mtad: state_dir: {tmp_path / 'mail' / 'state'}: another mtad run works there\n"


UNREACHABLE = "postgresql://me:secret@127.0.0.1:1/mtad"


async def test_an_unreachable_database_is_one_line_without_the_password_while_no_links_are_known(
    tmp_path: Path,
) -> None:
    installed = Installed(tmp_path / "mail", UNREACHABLE)

    code, said = await installed.refused()

    assert code == 69
    assert said.startswith("mtad: database postgresql://me@127.0.0.1:1/mtad: ")
    assert said.count("\n") == 1
    assert installed.noted("started") == []


@pytest.mark.parametrize("database", [UNREACHABLE, "embedded"])
def test_where_links_are_known_a_database_that_is_away_is_waited_for(
    tmp_path: Path, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    installed = Installed(tmp_path / "mail", database)
    config = load_config(installed.config)
    (config.state / "postgres" / "data").mkdir(parents=True)  # of which no Postgres can be started
    with pytest.raises(DatabaseAway), _database(config, SystemClock()):
        pass
    installed.know_links()

    with _database(config, SystemClock()) as (_, beside):
        assert len(beside) == (2 if database == "embedded" else 0)
    (warning,) = caplog.records
    assert warning.getMessage() == "recipients are served without the database"
    assert "secret" not in str(vars(warning))


async def test_our_database_is_migrated_when_it_comes_late_and_whatever_fails(
    tmp_path: Path,
    pool: Pool,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if "?host=/" not in database_url:
        pytest.skip("needs a server with a Unix socket")
    folder = database_url.partition("?host=")[2].partition("&")[0]
    link = Path(mkdtemp()) / "socket"  # tmp_path is longer than the 107 bytes of a socket's address
    await pool.execute("drop schema public cascade")
    await pool.execute("create schema public")

    await pool.execute("create view schema_version as select 'a defect' as version")

    class Late(SystemClock):
        """The database is there after the first wait for it, and can be migrated after the second."""

        async def sleep(self, seconds: float) -> None:
            if link.is_symlink():
                await pool.execute("drop view schema_version")
            else:
                link.symlink_to(folder)

    made = []
    own = Postgres(tmp_path)
    monkeypatch.setattr(own, "make_database", lambda: made.append("the database"))
    await _migrate_later(own, database_url.replace(folder, str(link)), Late())

    await require_schema(pool)
    assert len(made) == 3
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "mtad.supervisor"]
    assert said == [(level, "the database is not migrated yet") for level in ("WARNING", "ERROR")]


async def test_a_database_that_refuses_us_is_one_line_though_links_are_known(tmp_path: Path, postgres_url: str) -> None:
    installed = Installed(tmp_path / "mail", with_database(postgres_url, "nowhere"))
    installed.know_links()

    with pytest.raises(Problem, match='database "nowhere" does not exist') as refused:
        await asyncio.to_thread(_database(load_config(installed.config), SystemClock()).__enter__)

    assert not isinstance(refused.value, DatabaseAway)


async def test_a_database_that_is_not_migrated_is_left_alone(tmp_path: Path, postgres_url: str) -> None:
    installed = Installed(tmp_path / "mail", postgres_url)
    installed.know_links()

    code, said = await installed.refused()

    assert code == 1
    assert "run `mtad migrate`" in said
    conn = await asyncpg.connect(postgres_url)
    assert await conn.fetchval("select to_regclass('schema_version')") is None
    await conn.close()


@pytest.mark.parametrize("name", ["dkim-m202611.pem", "tracking.keys"])
async def test_a_missing_key_is_one_line_and_78(tmp_path: Path, database_url: str, name: str) -> None:
    installed = Installed(tmp_path / "mail", database_url)
    (installed.folder / "keys" / name).unlink()

    code, said = await installed.refused()

    assert code == 78
    assert said.startswith(f"mtad: {installed.folder / 'keys' / name}: ")
    assert said.count("\n") == 1


def pid_in(path: Path) -> int | None:
    """The process that a pid file names; None while there is no file, or nothing in it yet."""
    with contextlib.suppress(OSError, IndexError):
        return int(path.read_text().split()[0])
    return None


async def schemas(url: str) -> object:
    """How many migrations a database has seen; None while it cannot be had."""
    with contextlib.suppress(OSError, asyncpg.PostgresError):
        conn = await asyncpg.connect(url)
        try:
            return await conn.fetchval("select count(*) from schema_version")
        finally:
            await conn.close()
    return None


async def test_the_embedded_database_is_made_migrated_and_brought_back_when_it_is_killed(open_folder: Path) -> None:
    installed = Installed(open_folder / "mail", "embedded")
    pid_file = open_folder / "mail" / "state" / "postgres" / "data" / "postmaster.pid"
    async with running(installed) as process:
        [note] = installed.noted("started")
        first = pid_in(pid_file)
        assert first
        os.kill(first, signal.SIGKILL)
        await until(lambda: pid_in(pid_file) not in (None, first))

        async with asyncio.timeout(30):
            while (found := await schemas(note.read_text())) is None:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        assert found == 1

        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert not pid_file.exists()
