"""Many callers, one write: what arrives together is written together.

Each caller awaits the result of its own item, so nothing is acknowledged before
the batch that holds it is done. While one batch is being written the next one
collects, so batches grow by themselves with the load and a lone item does not wait.
Where that is not enough, a batch can linger for items that are about to come.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# A batch that lingers looks so often whether it is full.
_LOOK = 0.002


class Batcher(Generic[Item, Result]):
    """Collects items and hands up to `most` of them at once to `write`.

    `write` returns one result per item, in order. When it raises, every caller of
    that batch gets the exception. `put` waits while `bound` items are queued, so
    memory is bounded by the callers.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        most: int,
        bound: int = 4096,
        linger: float = 0.0,
        more: Callable[[], bool] = lambda: True,
    ) -> None:
        """A batch that is not full waits up to `linger` seconds, and only while `more` says that items are coming."""
        self._write = write
        self._most = most
        self._linger = linger
        self._more = more
        self._queue: asyncio.Queue[tuple[Item, asyncio.Future[Result]]] = asyncio.Queue(bound)

    async def put(self, item: Item) -> Result:
        """Have one item written; returns or raises when its batch is done."""
        return await (await self.submit(item))

    async def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue one item; the future is done when its batch is."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        await self._queue.put((item, done))
        return done

    async def run(self) -> None:
        """Write batches until cancelled; a batch that has begun is finished first."""
        while True:
            first = await self._queue.get()
            writing = asyncio.ensure_future(self._collect(first))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing
                raise

    async def _collect(self, first: tuple[Item, asyncio.Future[Result]]) -> None:
        looks = round(self._linger / _LOOK)
        while looks and self._queue.qsize() < self._most - 1 and self._more():
            await asyncio.sleep(_LOOK)
            looks -= 1
        await self._flush([first, *self._queued(self._most - 1)])

    async def drain(self) -> None:
        """Write what `run` had not yet begun when it was cancelled, so that no caller waits for ever."""
        while batch := self._queued(self._most):
            await self._flush(batch)

    def _queued(self, most: int) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while len(batch) < most and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    async def _flush(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._write([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - the callers decide what a failure means
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
            return
        for (_, done), result in zip(batch, results, strict=True):
            if not done.done():
                done.set_result(result)
