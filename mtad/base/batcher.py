"""Many callers, one write: what arrives together is written together.

Each caller awaits the result of its own item, so nothing is acknowledged before
the batch that holds it is done. While one batch is being written the next one
collects, so batches grow by themselves with the load and a lone item does not wait.
Where that is not enough, a batch can linger for items that are about to come.
"""

import asyncio
from collections import deque
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
        self._bound = bound
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, item: Item) -> Result:
        """Have one item written; returns or raises when its batch is done."""
        return await (await self.submit(item))

    async def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue one item; the future is done when its batch is."""
        while len(self._waiting) >= self._bound:
            self._room.clear()
            await self._room.wait()
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._arrived.set()
        self._waiting.append((item, done))
        return done

    async def run(self) -> None:
        """Write batches until cancelled; a batch that has begun is finished first."""
        while True:
            await self._arrived.wait()
            writing = asyncio.ensure_future(self._collect())
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing
                raise

    async def _collect(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._linger
        while len(self._waiting) < self._most and self._more() and loop.time() < until:  # noqa: ASYNC110 - `more` is asked, and tells nobody
            await asyncio.sleep(_LOOK)
        await self._flush(self._next_batch())

    async def drain(self) -> None:
        """Write what `run` had not yet begun when it was cancelled, so that no caller waits for ever."""
        while self._waiting:
            await self._flush(self._next_batch())

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        if not self._waiting:
            self._arrived.clear()
        self._room.set()
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
