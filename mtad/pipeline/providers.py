"""Limits over all sites of a provider, over all workers: sessions, and mails a second, from each source.

A lane whose provider has no such limit asks nobody. A session counts from before it is
dialled until it is closed, and its place goes to a lane of this worker that stands in line,
if there is one; a mail takes its token right before its begin.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence

import msgspec

from mtad.base.batcher import Batcher
from mtad.base.clock import Clock
from mtad.base.db import AWAY, Connection, Pool, in_transaction
from mtad.queue import providers as store
from mtad.queue.providers import Hold, Pace

log = logging.getLogger("mtad.providers")

# Seconds after which is asked again when the database is away.
AGAIN = 1.0

# After a lane could not have a session no other keeps an idle one for so long.
TIGHT_FOR = 5.0

# So many lanes of a provider, for so many seconds, keep the mail that they claimed while they stand in line for
# a session; others give theirs back at once, and other workers may have places for it.
MOST_IN_LINE, IN_LINE_FOR = 8, 1.0

# Waits for a token up to this many seconds keep the mail in hand; after longer ones nobody
# asks for as long, at most the second: others may have given up.
PATIENCE, OUT_LONGEST = 1.0, 60.0

Key = tuple[str, str]  # source and provider


class Ask(msgspec.Struct, frozen=True, gc=False):
    """So many further sessions; 0: what was given back is to be written down."""

    key: Key
    most: int
    number: int


class Providers:
    """Asks for all lanes of the worker together."""

    def __init__(self, pool: Pool, clock: Clock, worker: int) -> None:
        self._pool = pool
        self._clock = clock
        self._worker = worker
        self._known: set[Key] = set()
        self._held: dict[Key, int] = {}
        self._short: dict[Key, dict[int, float]] = {}  # the two lanes that were last, until when; monotonic
        self._line: dict[Key, dict[int, asyncio.Future[bool]]] = {}  # lanes that wait for a place, the first first
        self._most_in_line = MOST_IN_LINE
        self._out_until: dict[Key, float] = {}  # monotonic
        self._paces: Batcher[Pace, float] = Batcher(self._take, most=64)
        self._asks: Batcher[Ask, int] = Batcher(self._hold, most=256)

    async def run_paces(self) -> None:
        await self._paces.run()

    async def run_sessions(self) -> None:
        await self._asks.run()

    async def pace(self, pace: Pace) -> float:
        """0.0: the mail may begin now; else the seconds after which to ask again."""
        wait = await self._paces.put(pace)
        if wait > PATIENCE:
            self._out_until[pace.source, pace.provider] = self._clock.monotonic() + min(wait, OUT_LONGEST)
        return wait

    def is_out(self, key: Key) -> bool:
        """Whether nobody should be dialled: there would be no token for the mail."""
        return self._out_until.get(key, 0.0) > self._clock.monotonic()

    async def take(self, key: Key, most: int, number: int, lane: int) -> int:
        """How many of `number` further sessions a lane may open, of at most `most` over all workers."""
        granted = await self._asks.put(Ask(key, most, number))
        if granted < number:
            short = self._short.setdefault(key, {})
            short.pop(lane, None)
            short[lane] = self._clock.monotonic() + TIGHT_FOR
            if len(short) > 2:
                del short[next(iter(short))]
        return granted

    async def give_back(self, key: Key, most: int, number: int) -> None:
        """So many are closed: for who stands in line, or anybody."""
        while number and self.hand_on(key):
            number -= 1
        if number:
            self._held[key] -= number
            await self._asks.put(Ask(key, most, 0))

    def hand_on(self, key: Key, lane: int | None = None) -> bool:
        """A session is closed, of this lane: the first other lane in line has its place. False: none waits."""
        line = self._line.get(key, {})
        first = next((other for other in line if other != lane), None)
        if first is None:
            return False
        line.pop(first).set_result(True)
        return True

    async def stand_in_line(self, key: Key, most: int, lane: int) -> bool:
        """Wait a second for a place that another lane of the worker hands on, then ask again; whether it has one."""
        line = self._line.setdefault(key, {})
        if len(line) >= self._most_in_line:
            return False
        place = line[lane] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([place], timeout=IN_LINE_FOR)
        finally:
            if not place.done():
                del line[lane]
        return place.result() if place.done() else await self.take(key, most, 1, lane) > 0

    def close_line(self) -> None:
        """From now on nobody waits in line."""
        self._most_in_line = 0
        for line in self._line.values():
            for place in line.values():
                place.set_result(False)
            line.clear()

    def is_tight(self, key: Key, lane: int) -> bool:
        """Whether another lane than this one waits for a session, as far as this worker knows."""
        now = self._clock.monotonic()
        return any(until > now for other, until in self._short.get(key, {}).items() if other != lane)

    async def _take(self, paces: Sequence[Pace]) -> Sequence[float]:
        keys = {(pace.source, pace.provider) for pace in paces}

        async def work(conn: Connection) -> list[float]:
            await self._know(conn, keys)
            return await store.take_paces(conn, paces)

        try:
            waits = await in_transaction(self._pool, work)
        except AWAY as error:
            log.warning("mails not counted", extra={"why": repr(error)})
            return [AGAIN] * len(paces)
        self._known |= keys
        return waits

    async def _hold(self, asks: Sequence[Ask]) -> Sequence[int]:
        wanted: dict[Key, Hold] = {}
        for ask in asks:
            held = self._held.get(ask.key, 0)
            before = wanted[ask.key].wanted if ask.key in wanted else held
            wanted[ask.key] = Hold(*ask.key, before + ask.number, held, ask.most)

        async def work(conn: Connection) -> list[int]:
            await self._know(conn, wanted.keys())
            return await store.hold(conn, self._worker, list(wanted.values()))

        try:
            found = await in_transaction(self._pool, work)
        except AWAY as error:
            log.warning("sessions with providers not counted", extra={"why": repr(error)})
            return [0] * len(asks)
        self._known |= wanted.keys()
        free = {key: now - hold.running for (key, hold), now in zip(wanted.items(), found, strict=True)}
        granted = []
        for ask in asks:
            granted.append(min(ask.number, free[ask.key]))
            free[ask.key] -= granted[-1]
            self._held[ask.key] = self._held.get(ask.key, 0) + granted[-1]
        return granted

    async def _know(self, conn: Connection, keys: Collection[Key]) -> None:
        """Those that are new; known they are once that is committed."""
        if new := sorted(set(keys) - self._known):
            await store.know(conn, new)
