"""Waiting for what the demo's story needs to have happened, and giving up where nothing moves any more."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from mtad.base.db import Connection
from mtad.base.errors import Problem
from mtad.lab import store
from mtad.lab.stage import Stage

T = TypeVar("T")

# Seconds. Nothing moved for so long: something is broken, and waiting on would hide it.
PATIENCE = 60.0


class Patience:
    """Asks the database again and again; every copy that arrives counts as a movement."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._moved = stage.clock.monotonic()
        self._copies_seen = 0

    async def over(self, program: str) -> None:
        await self.until(lambda conn: holds(store.running(conn, program), lambda count: count == 0))

    async def while_running(self, program: str, question: Callable[[Connection], Awaitable[T | None]]) -> T | None:
        """Ask again and again until the answer is true, or None when the program is over first."""

        async def either(conn: Connection) -> tuple[T | None] | None:
            over = not await store.running(conn, program)
            answer = await question(conn)
            return (answer or None,) if answer or over else None

        return (await self.until(either))[0]

    async def until(self, question: Callable[[Connection], Awaitable[T | None]]) -> T:
        """Ask again and again until the answer is true; Problem when nothing arrives any more."""
        self._moved = self._stage.clock.monotonic()
        while True:
            async with self._stage.pool.acquire() as conn:
                if answer := await question(conn):
                    return answer
            now = self._stage.clock.monotonic()
            if len(self._stage.sink.messages) != self._copies_seen:
                self._copies_seen, self._moved = len(self._stage.sink.messages), now
            if now - self._moved > PATIENCE:
                raise Problem(f"nothing has moved for {PATIENCE:.0f} s; see {self._stage.place.log_path}")
            await self._stage.clock.sleep(0.2)


async def holds(answer: Awaitable[T], is_so: Callable[[T], bool]) -> bool:
    """Whether something is so of an answer that is still to come."""
    return is_so(await answer)
