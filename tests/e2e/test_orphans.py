"""A supervisor that is killed takes everything with it that it started."""

import asyncio
import os
import signal
from pathlib import Path

from mtad.lab.installation import Installation, free_port
from mtad.ops.postgres import Postgres


def inhabitants(folder: Path) -> dict[int, bytes]:
    """Who works for this folder: it stands in the command line of workers and Postgres."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and process.name != str(os.getpid()):
            try:
                line = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in line:
                found[int(process.name)] = line
    return found


async def test_a_killed_supervisor_leaves_neither_workers_nor_postgres_behind(folder: Path) -> None:
    installation = Installation(folder)
    await installation.command("init", "--domain", "example.com", "--dir", str(folder))
    installation.route({}, tracker_port=free_port(), rate=100)
    await installation.start()
    while "msg=ready" not in installation.log_path.read_text(encoding="utf-8"):
        installation.require_running()
        await asyncio.sleep(0.01)
    assert Postgres(installation.config.state / "postgres").running()
    workers = [pid for pid, line in inhabitants(folder).items() if b"mtad.worker" in line]
    assert len(workers) == 2

    os.kill(os.getsid(workers[0]), signal.SIGKILL)

    assert await installation.stop() == -signal.SIGKILL
    while inhabitants(folder):  # noqa: ASYNC110 - other processes set no event of ours
        await asyncio.sleep(0.01)
