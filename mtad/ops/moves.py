"""Mail follows its domain to another site: waiting jobs are labelled anew, page by page, while workers go on.

What a worker holds is left to it, and follows when it waits again. What was queued by
somebody who read the old site is found by a second pass, GRACE later. A job keeps its
row and its place; only a waiting one is touched, under its lock, so none is sent twice.
"""

from collections.abc import Sequence
from datetime import datetime

from mtad.base.db import Connection, Pool, in_transaction
from mtad.queue import store
from mtad.queue.store import Move

# Longer than anybody takes from reading a domain's site to queueing mail for it.
GRACE = 60.0


class _Following:
    """How far one move is. Lost with its housekeeper; the next one begins again."""

    def __init__(self, moved: datetime) -> None:
        self.moved = moved
        self.passed_at = -1.0  # how old the move was when the last whole pass began
        self.held: list[int] = []


class Movers:
    """Has the mail of moved domains follow them; `run` is a sweep."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._following: dict[tuple[int, int], _Following] = {}

    async def run(self) -> int:
        """Go on with every move; how many jobs followed."""
        async with self._pool.acquire() as conn:
            moves = await store.domain_moves(conn)
        before, self._following = self._following, {}
        went = 0
        for move in moves:
            key = move.domain_id, move.from_site
            known = before.get(key)
            self._following[key] = following = known if known and known.moved == move.moved else _Following(move.moved)
            went += await self._go_on(move, following)
        return went

    async def _go_on(self, move: Move, following: _Following) -> int:
        if move.from_site == move.to_site:  # it came back
            await self._end(move)
            return 0
        went = 0
        if following.passed_at < 0 or (following.passed_at < GRACE <= move.age):
            went += await self._pass(move, following)
        elif following.held:
            went += await self._those_held(move, following)
        if following.passed_at >= GRACE and not following.held:
            await self._end(move)
        return went

    async def _pass(self, move: Move, following: _Following) -> int:
        """Look at all contacts of the domain once."""
        following.held = []
        total = 0
        last: int | None = 0
        while last is not None:
            last, went, held = await self._page(move, last)
            following.held += held
            total += went
        following.passed_at = move.age
        return total

    async def _page(self, move: Move, after: int) -> tuple[int | None, int, list[int]]:
        async def write(conn: Connection) -> tuple[int | None, int, list[int]]:
            last, went, held = await store.move_jobs(conn, move, after)
            if went:
                await store.wake_sites(conn, [move.to_site])
            return last, went, held

        return await in_transaction(self._pool, write)

    async def _those_held(self, move: Move, following: _Following) -> int:
        async def write(conn: Connection) -> tuple[Sequence[int], int]:
            held, went = await store.move_held(conn, move, following.held)
            if went:
                await store.wake_sites(conn, [move.to_site])
            return held, went

        held, went = await in_transaction(self._pool, write)
        following.held = list(held)
        return went

    async def _end(self, move: Move) -> None:
        async with self._pool.acquire() as conn:
            await store.end_move(conn, move)
