"""How many sessions one lane of this worker has: agreed upon with the other workers and the provider's other lanes."""

import asyncio
from collections.abc import Callable
from math import inf

from mtad.base.shape import Shape
from mtad.pipeline.tools import Tools
from mtad.queue import store
from mtad.queue.store import Wish

# Sessions beyond a worker's share of the lane are kept for so long before others are asked.
KEPT_FOR = 5.0


class Places:
    """The places of one lane; each of its sessions has one, from before it is dialled until it is closed."""

    def __init__(self, lane: store.Lane, shape: Shape, tools: Tools) -> None:
        self.running = 0  # places that sessions have
        self.asked = 0  # places that will be asked for
        self.kept: float = inf  # no more than so many, for other workers lack some
        self._lane = lane.id
        self._provider = lane.source, lane.provider
        self._of_provider = shape.provider_connection_limit  # 0: without a limit
        self._tools = tools
        self._counting = asyncio.Lock()
        self._held = 0  # as many as run, as the database knows
        self._held_until = 0.0  # what is held need not be asked for again before
        self._grows = False  # what is asked for goes beyond the worker's share
        self._is_tight = False  # the provider allowed fewer than the lane when it was last asked

    def ask(self, number: int, *, growing: bool) -> None:
        """So many further ones will be taken."""
        self.asked += number
        self._grows |= growing

    async def take(self) -> tuple[int, bool]:
        """Take those that were asked for: how many there were for sessions to be opened, and whether that is all."""
        async with self._counting:
            # Places of sessions that end meanwhile are not for these: they are given back behind us.
            number, growing, running = self.asked, self._grows, self.running
            self._grows = False
            await self._hold(running + number, growing=growing)
            # In this order: a lane that is closed must not keep the provider's from others.
            granted = self._held - running
            allowed = await self._provider_allows(granted)
            self._is_tight = allowed < granted
            if self._is_tight:
                await self._hold(running + allowed, growing=growing)
            opened = max(0, self._held - running)
            self.running += opened
            self.asked -= number
        await self._provider_has_back(allowed - opened)
        return opened, opened == number

    def must_look(self) -> bool:
        """Whether it is time to look if others lack what is held here; once, then not for a while."""
        now = self._tools.clock.monotonic()
        looks = self.running > 1 and now >= self._held_until
        if looks:
            self._held_until = now + KEPT_FOR
        return looks

    async def look(self) -> None:
        """Ask for what runs, to know how much of it is to be given up."""
        async with self._counting:
            await self._hold(self.running)

    async def take_handed(self, wanted: Callable[[], bool]) -> bool:
        """Where the provider allowed no more: stand in line for one place, and take it if it is `wanted` then."""
        stand = self._tools.providers.stand_in_line
        if not self._is_tight or not await stand(self._provider, self._of_provider, self._lane):
            return False
        opened = 0
        if wanted():
            async with self._counting:
                await self._hold(self.running + 1)
                opened = min(self._held - self.running, 1)
                self.running += opened
        await self._provider_has_back(1 - opened)
        return opened > 0

    def hand_on(self) -> bool:
        """A session is closed, and another lane in line has its place with the provider. False: nobody waits."""
        return bool(self._of_provider) and self._tools.providers.hand_on(self._provider, self._lane)

    async def leave(self, *, again: bool, handed_on: bool) -> bool:
        """A session is over; `again`: another is to have its place. Whether it may."""
        if again and self._tools.clock.monotonic() < self._held_until:
            return True
        self.running -= 1
        async with self._counting:
            if again or self._held > self.running:  # else another that ended has said so for both
                await self._hold(self.running + again)
            again &= self._held > self.running
            self.running += again
        if not again and not handed_on:
            await self._provider_has_back(1)
        return again

    async def _hold(self, wanted: int, *, growing: bool = False) -> None:
        grant = await self._tools.sessions.hold(Wish(self._lane, wanted, self.running, growing), self._held)
        self._held = grant.sessions
        self.kept = grant.share if grant.others_lack else inf
        self._held_until = self._tools.clock.monotonic() + KEPT_FOR

    async def _provider_allows(self, number: int) -> int:
        """How many further sessions all sites of the provider together leave to this lane."""
        if not (self._of_provider and number):
            return number
        return await self._tools.providers.take(self._provider, self._of_provider, number, self._lane)

    async def _provider_has_back(self, number: int) -> None:
        if number and self._of_provider:
            await self._tools.providers.give_back(self._provider, self._of_provider, number)
