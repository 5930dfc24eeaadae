"""What tests/blocking.py promises; it watches in every test."""

import asyncio
import os
import time
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
        ("os.fsync", lambda _: os.fsync(1)),
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


async def test_what_runs_in_a_thread_may_block() -> None:
    async def write(items: Sequence[str]) -> Sequence[str]:
        await asyncio.to_thread(time.sleep, 0)
        return items

    batcher = Batcher(write, most=1)
    written = await batcher.submit("item")
    await batcher.drain()

    assert await written == "item"
