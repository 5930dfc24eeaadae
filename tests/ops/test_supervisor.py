"""The supervisor with a worker that does nothing but live and die as it is told."""

import asyncio
import itertools
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.clock import SystemClock
from mtad.base.errors import ConfigError
from mtad.ops import supervisor as module
from mtad.ops.notify import Notifier
from mtad.ops.supervisor import LONG_LIFE, LONGEST_PAUSE, Supervisor, pause_before_restart

FAKE = Path(__file__).with_name("fake_worker.py")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what happens, happens in other processes
            await asyncio.sleep(0.005)


class Crew:
    """A supervisor at work, and what its workers noted."""

    def __init__(self, folder: Path, mode: str, *, slots: int = 2, drain: float = 10.0) -> None:
        self.folder = folder
        self.sockets = {"tracker": socket.create_server(("127.0.0.1", 0))}
        self.wrong: ConfigError | None = None
        self._told: list[str] = []
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(folder / "notify"))
        self.supervisor = Supervisor(
            [sys.executable, "-SE", str(FAKE), mode, str(folder)],
            slots=slots,
            sockets=self.sockets,
            environment={"MTAD_DATABASE": "postgresql://somewhere"},
            drain=drain,
            clock=SystemClock(),
            require_good=self.require_good,
            notifier=Notifier({"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "20000000"}),
        )

    def require_good(self) -> None:
        if self.wrong:
            raise self.wrong

    def noted(self, event: str, slot: int | str = "*") -> list[Path]:
        return sorted(self.folder.glob(f"{event}.{slot}.*"), key=lambda path: path.stat().st_mtime_ns)

    def pid(self, slot: int) -> int:
        return int(self.noted("ready", slot)[-1].name.split(".")[2])

    def told(self) -> list[str]:
        self.notified.setblocking(False)
        try:
            while True:
                self._told += self.notified.recv(1000).decode().splitlines()
        except BlockingIOError:
            return self._told


@asynccontextmanager
async def at_work(crew: Crew) -> AsyncIterator[asyncio.Task[int]]:
    running = asyncio.create_task(crew.supervisor.run())
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for sock in (*crew.sockets.values(), crew.notified):
            sock.close()


async def test_sigterm_drains_every_worker_and_exits_0(tmp_path: Path) -> None:
    crew = Crew(tmp_path, "good")
    async with at_work(crew) as running:
        await until(lambda: len(crew.noted("ready")) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

        assert await running == 0
        assert len(crew.noted("drained")) == 2
        assert crew.noted("started")[0].read_text() == "postgresql://somewhere"


async def test_systemd_hears_when_all_are_ready_and_when_we_stop(tmp_path: Path) -> None:
    crew = Crew(tmp_path, "good")
    async with at_work(crew) as running:
        await until(lambda: "READY=1" in crew.told())
        ready_by_then = len(crew.noted("started"))
        waits = "EXTEND_TIMEOUT_USEC=20000000"
        crew.supervisor.stop()
        await running

        assert ready_by_then == 2
        assert crew.told() == ["WATCHDOG=1", waits, "READY=1", "STATUS=2 workers", "STOPPING=1"]


async def test_a_killed_worker_is_replaced_and_the_others_live_on(tmp_path: Path) -> None:
    crew = Crew(tmp_path, "good")
    async with at_work(crew) as running:
        await until(lambda: len(crew.noted("ready")) == 2)
        first, other = crew.pid(0), crew.pid(1)
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(crew.noted("ready", 0)) == 2)

        assert crew.pid(0) != first
        assert crew.pid(1) == other
        crew.supervisor.stop()
        assert await running == 0


async def test_a_stubborn_worker_is_killed_after_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.05)
    crew = Crew(tmp_path, "stubborn", drain=0.05)
    async with at_work(crew) as running:
        await until(lambda: len(crew.noted("ready")) == 2)
        crew.supervisor.stop()

        assert await running == 1
        assert crew.noted("drained") == []


async def test_a_worker_that_says_the_configuration_is_wrong_stops_all_with_78(tmp_path: Path) -> None:
    crew = Crew(tmp_path, "misconfigured")
    async with at_work(crew) as running:
        assert await running == 78
        assert len(crew.noted("started")) <= 2


async def test_a_worker_that_dies_at_birth_is_tried_again_and_stopping_does_not_wait_for_it(tmp_path: Path) -> None:
    crew = Crew(tmp_path, "stillborn", slots=1)
    async with at_work(crew) as running:
        await until(lambda: len(crew.noted("started")) == 3)
        crew.supervisor.stop()

        assert await running == 0


async def test_sighup_drains_every_worker_and_new_ones_take_over(tmp_path: Path) -> None:
    crew = Crew(tmp_path, "good")
    async with at_work(crew) as running:
        await until(lambda: len(crew.noted("ready")) == 2)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(crew.noted("ready")) == 4)

        assert len(crew.noted("drained")) == 2
        crew.supervisor.stop()
        assert await running == 0


async def test_a_configuration_gone_wrong_is_not_reloaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crew = Crew(tmp_path, "good")
    crew.wrong = ConfigError("mtad.toml: colour: no such key")
    async with at_work(crew) as running:
        await until(lambda: len(crew.noted("ready")) == 2)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "not reloaded" in caplog.messages)
        crew.supervisor.stop()

        assert await running == 0
    assert len(crew.noted("started")) == 2


async def test_workers_share_the_listening_socket(tmp_path: Path) -> None:
    crew = Crew(tmp_path, "listening")
    async with at_work(crew):
        answers = set()
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*crew.sockets["tracker"].getsockname())
            answers.add(await reader.read())
            writer.close()

        assert answers == {b"0", b"1"}


async def test_a_worker_does_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from tests.ops.test_supervisor import Crew; from pathlib import Path\n"
        "asyncio.run(Crew(Path(sys.argv[1]), 'good').supervisor.run())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(tmp_path))
    await until(lambda: len(list(tmp_path.glob("ready.*"))) == 2)
    process.kill()
    await process.wait()

    await until(lambda: len(list(tmp_path.glob("orphaned.*"))) == 2)


@given(st.lists(st.floats(0, 2 * LONG_LIFE), max_size=30))
def test_the_pause_is_none_after_a_long_life_and_else_grows_to_its_limit(lives: list[float]) -> None:
    pauses = list(itertools.accumulate(lives, lambda last, lived: pause_before_restart(lived, last), initial=0.0))

    for lived, (last, pause) in zip(lives, itertools.pairwise(pauses), strict=True):
        if lived >= LONG_LIFE:
            assert pause == 0
        else:
            assert pause == min(max(0.2, 2 * last), LONGEST_PAUSE)
