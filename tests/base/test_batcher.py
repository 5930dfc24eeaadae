"""Many callers, one write."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.batcher import Batcher


class Desk:
    """A write that can be held, and what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        await self.open.wait()
        if -1 in items:
            raise OSError("the disk is full")
        return [item * 10 for item in items]


@contextlib.asynccontextmanager
async def running(batcher: Batcher[int, int]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(batcher.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50), st.integers(1, 10), st.integers(1, 60))
def test_everybody_gets_the_result_of_his_own_item_and_each_is_written_once(
    items: list[int], most: int, bound: int
) -> None:
    async def scene() -> tuple[list[int], list[list[int]]]:
        desk = Desk()
        batcher = Batcher(desk.write, most=most, bound=bound)
        async with running(batcher):
            return await asyncio.gather(*map(batcher.put, items)), desk.batches

    results, batches = asyncio.run(scene())

    assert results == [item * 10 for item in items]
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) <= most for batch in batches)


async def test_a_lone_item_is_written_at_once() -> None:
    desk = Desk()
    batcher = Batcher(desk.write, most=10)
    async with running(batcher):
        assert await batcher.put(1) == 10
    assert desk.batches == [[1]]


async def test_a_batch_lingers_for_a_time_however_slow_the_loop_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtad.base.batcher._LOOK", 0)
    loop = asyncio.get_running_loop()
    looks: list[float] = []
    begun = loop.time()
    monkeypatch.setattr(loop, "time", lambda: begun + 0.02 * len(looks))  # each look takes so long

    def more() -> bool:
        looks.append(loop.time())
        return len(looks) < 100

    batcher = Batcher(Desk().write, most=10, linger=0.05, more=more)
    async with running(batcher):
        await batcher.put(1)
    assert len(looks) == 3


async def test_what_comes_during_a_write_goes_together_in_the_next() -> None:
    desk = Desk()
    desk.open.clear()
    batcher = Batcher(desk.write, most=10)
    async with running(batcher):
        waiting = [asyncio.create_task(batcher.put(0))]
        await settled()
        waiting += [asyncio.create_task(batcher.put(item)) for item in (1, 2, 3)]
        await settled()
        desk.open.set()
        await asyncio.gather(*waiting)

    assert desk.batches == [[0], [1, 2, 3]]


async def test_nobody_is_answered_before_the_write_is_done() -> None:
    desk = Desk()
    desk.open.clear()
    batcher = Batcher(desk.write, most=10)
    async with running(batcher):
        waiting = asyncio.create_task(batcher.put(1))
        await settled()
        assert not waiting.done()

        desk.open.set()
        assert await waiting == 10


async def test_a_failed_write_fails_its_callers_and_nobody_else() -> None:
    desk = Desk()
    batcher = Batcher(desk.write, most=1)
    async with running(batcher):
        results = await asyncio.gather(*map(batcher.put, [1, -1, 2]), return_exceptions=True)

    assert (results[0], results[2]) == (10, 20)
    assert isinstance(results[1], OSError)


async def test_a_batch_that_has_begun_is_finished_when_cancelled() -> None:
    desk = Desk()
    desk.open.clear()
    batcher = Batcher(desk.write, most=10)
    async with running(batcher) as task:
        waiting = asyncio.create_task(batcher.put(1))
        await settled()
        task.cancel()
        await settled()
        assert not task.done()
        desk.open.set()

        assert await waiting == 10
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_batch_waits_for_items_that_are_coming_and_for_no_others() -> None:
    desk = Desk()
    coming = True
    batcher = Batcher(desk.write, most=3, linger=60, more=lambda: coming)
    async with running(batcher):
        first = asyncio.create_task(batcher.put(1))
        await settled()
        assert desk.batches == []

        coming = False
        await first
        coming = True
        await asyncio.gather(*map(batcher.put, (2, 3, 4)))

    assert desk.batches == [[1], [2, 3, 4]]


async def test_an_item_that_lingers_is_written_when_cancelled() -> None:
    desk = Desk()
    batcher = Batcher(desk.write, most=10, linger=0.01)
    async with running(batcher) as task:
        waiting = asyncio.create_task(batcher.put(1))
        await settled()
        task.cancel()

        assert await waiting == 10


async def test_what_was_not_begun_is_written_by_drain() -> None:
    desk = Desk()
    batcher = Batcher(desk.write, most=2)
    waiting = [asyncio.create_task(batcher.put(item)) for item in (1, 2, 3)]
    await settled()
    await batcher.drain()

    assert await asyncio.gather(*waiting) == [10, 20, 30]
    assert desk.batches == [[1, 2], [3]]


async def test_callers_wait_while_the_queue_is_full() -> None:
    desk = Desk()
    batcher = Batcher(desk.write, most=10, bound=2)
    waiting = [asyncio.create_task(batcher.submit(item)) for item in range(3)]
    await settled()

    assert [task.done() for task in waiting] == [True, True, False]
    waiting[2].cancel()


async def test_a_caller_that_gives_up_does_not_hurt_the_others() -> None:
    desk = Desk()
    desk.open.clear()
    batcher = Batcher(desk.write, most=10)
    async with running(batcher):
        staying, leaving = asyncio.create_task(batcher.put(1)), asyncio.create_task(batcher.put(2))
        await settled()
        leaving.cancel()
        await settled()
        desk.open.set()

        assert await staying == 10
