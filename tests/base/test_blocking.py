"""What tests/blocking.py promises; it watches in every test."""

import asyncio
import fcntl
import os
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mtad.base.batcher import Batcher
from tests.blocking import Blocked


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("time.sleep", lambda _: time.sleep(0)),
        ("io.open", Path.read_bytes),
        ("os.mkdir", lambda path: (path / "new").mkdir()),
        ("os.open", lambda path: os.open(path, os.O_RDONLY)),
        ("os.fsync", lambda _: os.fsync(1)),
        ("os.fdatasync", lambda _: os.fdatasync(1)),
        ("os.ftruncate", lambda _: os.ftruncate(1, 0)),
        ("fcntl.flock", lambda _: fcntl.flock(1, fcntl.LOCK_EX)),
    ],
)
async def test_what_blocks_the_loop_fails_the_test_whatever_the_service_does_about_errors(
    name: str, blocks: Callable[[Path], object], tmp_path: Path, blocked: list[str]
) -> None:
    async def write(items: Sequence[Path]) -> list[object]:
        return [blocks(item) for item in items]

    batcher = Batcher(write, most=1)
    written = await batcher.submit(tmp_path)
    await batcher.drain()

    with pytest.raises(Blocked, match=rf"^{name}$"):
        await written
    assert blocked.pop().startswith(f"{name}\n")


async def test_what_runs_in_a_thread_waits_for_nothing_or_is_a_finaliser_may_block(tmp_path: Path) -> None:
    async def write(items: Sequence[str]) -> Sequence[str]:
        await asyncio.to_thread(time.sleep, 0)
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        forgotten.clear()
        return items

    folder = os.open(tmp_path, os.O_RDONLY)
    forgotten = [Batcher(write, most=1)]
    weakref.finalize(forgotten[0], os.rmdir, tmp_path)
    batcher = Batcher(write, most=1)
    written = await batcher.submit("item")
    await batcher.drain()
    os.close(folder)

    assert await written == "item"
    assert not tmp_path.exists()  # noqa: ASYNC240
