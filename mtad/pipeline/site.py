"""One site in one worker: the mails that wait for it here, pool by pool, and the lanes that take them.

A lane leads from one source to the site. Which source a mail leaves by is decided when a
session is wanted: by weight, among the sources of the mail's pool whose lanes can have one.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from mtad.base.config import Shape
from mtad.base.source import DEFAULT
from mtad.ops.watch import LaneFigures
from mtad.pipeline.backlog import TRANSACTIONAL, Backlog
from mtad.pipeline.endings import Mail
from mtad.pipeline.lane import LaneRunner
from mtad.pipeline.places import KEPT_FOR
from mtad.pipeline.tools import Tools
from mtad.queue import store
from mtad.queue.settle import Ending
from mtad.queue.store import Released, Returned
from mtad.source.rotation import Rotation

# Mails claimed ahead for one site, beside one for each session: below the first another
# claim is urgent, from the second on it takes transactional mail only.
LOW, ENOUGH = 16, 64

# A session is opened for so many waiting mails, since each costs a dialogue of its own;
# where mails have waited for so many seconds, twice as many.
MAILS_A_SESSION = 8
BEHIND_FOR = 1.0

# While a transactional mail was seen within so many seconds, one session and a tenth of
# the tokens are kept for the next.
KEEPS_FOR = 3600.0

# Mail of a pool that cannot go, where others can, is out of their way until it can, within
# these seconds: claimed again at once it would stand at the head of the queue before them.
STRANDED_LEAST, STRANDED_FOR = 5.0, 60.0


class _Queue(msgspec.Struct):
    """What waits for one pool, and the lanes of its sources."""

    pool: str
    backlog: Backlog
    lanes: list[LaneRunner]
    rotation: Rotation


class SiteRunner:
    """Takes mails with `add`; its lanes send them."""

    def __init__(self, lanes: Sequence[tuple[store.Lane, Shape]], tools: Tools, group: asyncio.TaskGroup) -> None:
        """`lanes`: one for each source."""
        self.name = lanes[0][0].name
        self.hosts = lanes[0][0].hosts
        self.draining = False
        self.keeps_until = 0.0  # monotonic
        self._tools = tools
        self._lanes = [LaneRunner(lane, shape, self, tools, group) for lane, shape in lanes]
        self._queues: dict[str, _Queue] = {}
        # Without [[source]] there is nothing to choose, and each mail comes by here.
        choice = len(lanes) > 1 or len(tools.sources.pools) > 1 or self._lanes[0].reception.is_warming
        self._only = None if choice else self._queue(DEFAULT).backlog
        self.has_more = False  # the last claim took as much as it may
        self._behind_since = 0.0  # monotonic; since when mails wait without an end

    # What the claimer asks

    @property
    def waiting(self) -> int:
        """Mails claimed and not taken by a session."""
        if self._only is not None:
            return len(self._only)
        return sum([len(queue.backlog) for queue in self._queues.values()])

    @property
    def running(self) -> int:
        """Its sessions."""
        return sum([lane.running for lane in self._lanes])

    @property
    def opened(self) -> int:
        """Its sessions and those that will be asked for."""
        return sum([lane.opened for lane in self._lanes])

    @property
    def is_low(self) -> bool:
        """Whether its sessions will soon have nothing to do, though more is queued."""
        return self.has_more and self.waiting < LOW + self.running

    @property
    def is_full(self) -> bool:
        """Whether bulk mail that is claimed for it would only lie here."""
        return self.waiting >= ENOUGH + self.running

    def asked(self) -> None:
        """A claim is made for it: what it does not bring is not there."""
        self.has_more = False

    def is_shut(self, now: float) -> bool:
        """Whether nothing should be claimed for it."""
        for lane in self._lanes:  # a generator takes twice as long
            if lane.reception.can(now) and self._tools.sources.is_asked(lane.lane.source):
                return False
        return True

    def is_over(self, now: float) -> bool:
        """Whether nothing is left to remember of it once no mail waits."""
        return all(lane.is_over(now) for lane in self._lanes)

    def add(self, mails: Sequence[Mail]) -> None:
        """Take mails, of pools that are configured; wakes or opens the sessions that they need."""
        now = self._tools.clock.monotonic()
        if not self.waiting:
            self._behind_since = now
        if TRANSACTIONAL in [mail.facts.class_ for mail in mails]:
            self.keeps_until = now + KEEPS_FOR
        for pool, its in self._by_pool(mails):
            self._queue(pool).backlog.add(its)
        self.has_more |= len(mails) >= store.MOST_A_SITE
        self._wake()
        self.open_for_backlog()

    def grow(self, now: float) -> None:
        """More sessions where mails wait for long: those there are do not suffice, and others may leave some.

        While mails wait to be signed it is the worker that does not suffice, and further
        sessions would only share the mails out among them.
        """
        behind = now - self._behind_since > BEHIND_FOR and not self._tools.signer.busy
        if behind or not self.opened:
            self._behind_since = now
            for queue in self._queues.values():
                if queue.backlog:
                    self._open(queue, max(sum([lane.running for lane in queue.lanes]), 1), growing=True)

    def close_idle(self) -> None:
        """End sessions that wait for a mail: others need the room."""
        for lane in self._lanes:
            lane.close_idle()

    async def drain(self) -> None:
        """Give back what waits; let each session finish the mail in its hand."""
        self.draining = True
        self.close_idle()
        await self._settle([Released(mail.facts) for queue in self._queues.values() for mail in queue.backlog.clear()])
        for lane in self._lanes:
            await lane.end()

    def abort(self) -> None:
        """End sessions where they are; what was begun is in doubt."""
        for lane in self._lanes:
            lane.abort()

    def figures(self, site: int) -> Iterator[LaneFigures]:
        """Its lanes that have sessions; what waits is told with the first, for no mail belongs to one."""
        busy = [lane for lane in self._lanes if lane.running] or self._lanes[:1]
        for number, lane in enumerate(busy):
            yield LaneFigures(site, self.name, lane.lane.source, lane.running, 0 if number else self.waiting)

    # What the lanes ask

    def waits(self, lane: LaneRunner) -> bool:
        """Whether there is a mail that this lane may take."""
        return any(queue.backlog and lane in queue.lanes for queue in self._queues.values())

    def take(self, lane: LaneRunner, *, urgent: bool = False) -> Mail | None:
        """The next mail for this lane, or the next transactional one; that of the longest of its queues."""
        if self._only is not None:
            return self._only.take(urgent=urgent)
        if not lane.reception.can(self._tools.clock.monotonic()):
            return None
        queues = [queue for queue in self._queues.values() if lane in queue.lanes]
        queues.sort(key=lambda queue: len(queue.backlog), reverse=True)
        if lane.reception.is_warming and not urgent:
            return next((mail for queue in queues if (mail := queue.backlog.take_best()) is not None), None)
        for hurry in (True,) if urgent else (True, False):
            for queue in queues:
                if (mail := queue.backlog.take(urgent=hurry)) is not None:
                    return mail
        return None

    def put_back(self, mail: Mail, lane: LaneRunner) -> bool:
        """Have another lane than this one take it; False where none can."""
        queue = self._queues[self._pool_of(mail)]
        now = self._tools.clock.monotonic()
        if self.draining or not any(other.reception.can(now) for other in queue.lanes if other is not lane):
            return False
        queue.backlog.put_back(mail)
        self._wake()
        self.open_for_backlog()
        return True

    def open_for_backlog(self) -> None:
        """Open as many sessions as what waits asks for, by whatever lanes."""
        for queue in self._queues.values():
            number = -(-len(queue.backlog) // MAILS_A_SESSION)
            for lane in queue.lanes:
                number -= lane.opened
            if number > 0:
                self._open(queue, number)

    def stays(self, lane: LaneRunner) -> bool:
        """Whether a session that is worn out is followed by one of the same lane: with others there is a choice."""
        return len(self._lanes) == 1 and self.waits(lane) and not self.draining

    def session_ended(self, lane: LaneRunner) -> None:
        """There is one session less."""
        for queue in self._queues.values():
            if queue.backlog and lane in queue.lanes:
                self._wake()
                self._open(queue, 1)

    def falls_short(self) -> None:
        """A lane could not have as many sessions as it asked for: do not ask for more soon."""
        self._behind_since = self._tools.clock.monotonic() + KEPT_FOR

    async def strand(self) -> None:
        """What was added and cannot go goes back."""
        now = self._tools.clock.monotonic()
        if not all(any(lane.reception.can(now) for lane in queue.lanes) for queue in self._queues.values()):
            await self.shut()

    async def shut(self) -> None:
        """One of the lanes can send nothing now: others open sessions, or what waits goes back."""
        now = self._tools.clock.monotonic()
        back: list[Ending] = []
        shut = self.is_shut(now)
        if shut:
            self.has_more = False
        for queue in self._queues.values():
            if any(lane.reception.can(now) for lane in queue.lanes):
                continue
            mails = queue.backlog.clear()
            if shut:
                # Their due time stands: the hint of the site keeps claims away.
                back += [Released(mail.facts) for mail in mails]
            else:
                back += self._stranded(queue, mails, now)
        self._wake()
        self.open_for_backlog()
        await self._settle(back)

    # How

    def _stranded(self, queue: _Queue, mails: Sequence[Mail], now: float) -> Iterator[Returned]:
        opens = min((lane.reception.opens_in(now) for lane in queue.lanes), default=STRANDED_FOR)
        delay = min(max(opens, STRANDED_LEAST), STRANDED_FOR)
        whys = ", ".join(
            f"{lane.lane.source}: {lane.reception.door.why}" for lane in queue.lanes if lane.reception.door.why
        )
        why = f"no source of pool {queue.pool!r} can send here now{whys and f' ({whys})'}"
        for mail in mails:
            yield Returned(mail.facts, delay, why, mail.facts.attempt)

    def _open(self, queue: _Queue, number: int, *, growing: bool = False) -> None:
        """Choose a source for each further session; a turn is lost to nobody who cannot have one.

        Never more than there are mails for: each session that is on its way will take one.
        """
        number = min(number, len(queue.backlog) - sum([lane.coming for lane in queue.lanes]))
        if self.draining or number <= 0:
            return
        now = self._tools.clock.monotonic()
        if len(queue.lanes) == 1:
            (lane,) = queue.lanes
            if (number := min(number, lane.room(now))) > 0:
                lane.open(number, growing=growing)
            return
        by_name = {lane.lane.source: lane for lane in queue.lanes}
        for _ in range(number):
            name = queue.rotation.turn([name for name, lane in by_name.items() if lane.room(now) > 0])
            if name is None:
                return
            by_name[name].open(1, growing=growing)

    def _wake(self) -> None:
        now = self._tools.clock.monotonic()
        for queue in self._queues.values():
            waiting = len(queue.backlog)
            for lane in queue.lanes:
                if waiting and (len(self._lanes) == 1 or lane.reception.can(now)):
                    waiting -= lane.wake(waiting)

    def _by_pool(self, mails: Sequence[Mail]) -> Iterable[tuple[str, Sequence[Mail]]]:
        if len(self._tools.sources.pools) == 1:
            return [(DEFAULT, mails)]
        pools: dict[str, list[Mail]] = {}
        for mail in mails:
            pools.setdefault(self._pool_of(mail), []).append(mail)
        return pools.items()

    def _pool_of(self, mail: Mail) -> str:
        return self._tools.sources.pool_of(mail.stream)

    def _queue(self, pool: str) -> _Queue:
        queue = self._queues.get(pool)
        if queue is None:
            sources = self._tools.sources
            members = sources.members(pool)
            lanes = [lane for lane in self._lanes if lane.lane.source in members]
            queue = self._queues[pool] = _Queue(pool, Backlog(), lanes, sources.pools[pool])
        return queue

    async def _settle(self, rows: Sequence[Ending]) -> None:
        done = [await self._tools.settler.batcher.submit(row) for row in rows]
        await asyncio.gather(*done)
