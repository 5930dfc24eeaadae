"""One lane in one worker: the sessions from one source to one site, which take the mails that wait there.

Sessions are opened when the site asks for them, up to the lane's limit over all workers,
and closed when idle. What becomes of their mails says how many there may be, and whether
the lane is closed.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Protocol

from mtad.base.config import Shape, rate, seconds
from mtad.base.db import AWAY
from mtad.outcome.classify import classify
from mtad.outcome.kinds import Deferred
from mtad.pipeline.backlog import TRANSACTIONAL
from mtad.pipeline.door import CLOSED_LONGEST, SHUT_FOR
from mtad.pipeline.endings import Mail
from mtad.pipeline.places import Places
from mtad.pipeline.reception import Reception
from mtad.pipeline.session import PATIENCE, SessionRunner
from mtad.pipeline.tools import Tools
from mtad.pipeline.watchdog import Phase, Step
from mtad.queue import store
from mtad.queue.dials import Dial
from mtad.queue.settle import Ending
from mtad.queue.store import Offer, Released, Trip
from mtad.smtp.results import Lost, Result, Stage
from mtad.wire.egress import Unbound
from mtad.wire.session import Session
from mtad.wire.terms import terms_of

log = logging.getLogger("mtad.lane")


class Site(Protocol):
    """What a lane asks of its site, which has the mails."""

    draining: bool
    keeps_until: float  # monotonic; until then each lane keeps a session for transactional mail

    def waits(self, lane: "LaneRunner") -> bool:
        """Whether there is a mail that this lane may take."""

    def take(self, lane: "LaneRunner", *, urgent: bool = False) -> Mail | None:
        """The next mail for this lane, or the next transactional one."""

    def put_back(self, mail: Mail, lane: "LaneRunner") -> bool:
        """Have another lane than this one take it; False where none can."""

    def open_for_backlog(self) -> None:
        """Open as many sessions as what waits asks for, by whatever lanes."""

    def stays(self, lane: "LaneRunner") -> bool:
        """Whether a session that is worn out is followed by one of the same lane."""

    def session_ended(self, lane: "LaneRunner") -> None:
        """There is one session less."""

    def falls_short(self) -> None:
        """The lane could not have as many sessions as it asked for: do not ask for more soon."""

    async def shut(self) -> None:
        """One of the lanes can send nothing now: others open sessions, or what waits goes back."""


class LaneRunner:
    """Takes the mails of `site` with sessions that run in `group`."""

    def __init__(self, lane: store.Lane, shape: Shape, site: Site, tools: Tools, group: asyncio.TaskGroup) -> None:
        self.lane = lane
        self.reception = Reception(lane, shape, tools, close=self._is_closed, bears_more=site.open_for_backlog)
        self._places = Places(lane, shape, tools)
        self._dialling = 0  # sessions that no server has greeted yet
        self._shape = shape
        self._site = site
        self._tools = tools
        self._group = group
        self._provider = lane.source, lane.provider
        self._egress = tools.sources.egress(lane.source)
        self._idle: list[asyncio.Future[bool]] = []  # sessions that wait for a mail; False: close
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = 0  # sessions that end because there are too many since there was trouble
        self._asking = False
        self._full_until = 0.0  # no further session before

    # What the site asks

    @property
    def running(self) -> int:
        """Its sessions."""
        return self._places.running

    @property
    def opened(self) -> int:
        """Its sessions and those that will be asked for."""
        return self._places.running + self._places.asked

    @property
    def coming(self) -> int:
        """Sessions on their way, that will take a mail each."""
        return self._places.asked + self._dialling

    def room(self, now: float) -> int:
        """How many further sessions it may ask for."""
        if now < self._full_until or not self.reception.can(now):
            return 0
        return int(min(self.reception.concurrency.allowed, self._places.kept)) - self.opened

    def is_over(self, now: float) -> bool:
        """Whether nothing is left to remember of it."""
        return not self._tasks and self.reception.door.is_spotless(now)

    def open(self, number: int, *, growing: bool = False) -> None:
        """Ask for so many further sessions, no more than it has room for."""
        self._places.ask(number, growing=growing)
        if not self._asking:
            self._asking = True
            self._run(self._take())

    def wake(self, most: int) -> int:
        """Give idle sessions mails to take, up to so many; how many."""
        # The one that fell idle last: the others may close.
        woken = min(most, len(self._idle))
        for _ in range(woken):
            _answer(self._idle.pop(), True)
        return woken

    def close_idle(self) -> None:
        """End sessions that wait for a mail: others need the room."""
        kept = 0 if self._site.draining else self._keeps
        while len(self._idle) > kept:
            _answer(self._idle.pop(), False)

    async def end(self) -> None:
        """Wait until each session has finished the mail in its hand."""
        while self._tasks:  # one that asks for sessions may still be granted some
            await asyncio.wait(self._tasks)

    def abort(self) -> None:
        """End sessions where they are; what was begun is in doubt."""
        for task in self._tasks:
            task.cancel()

    # Opening sessions

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = self._group.create_task(work, name=f"lane {self.lane.source}/{self.lane.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self) -> None:
        """Open the sessions that were asked for, as many as there are places for."""
        while self._places.asked:
            if self.reception.allowance is not None and not await self.reception.allowance.ready():
                self._places.asked = 0
                break
            opened, all_ = await self._places.take()
            for _ in range(opened):
                self._run(self._session())
            if not all_:
                # All workers together hold what the lane allows. Asking again for each mail
                # would hold up begin, which needs the lane's row too.
                self._full_until = self._tools.clock.monotonic() + SHUT_FOR
                self._places.asked = 0
                self._site.falls_short()
                self._site.open_for_backlog()
                if await self._places.take_handed(lambda: self._site.waits(self) and not self._site.draining):
                    self._run(self._session())
        self._asking = False
        if not self.running:
            await self._shut()

    async def _session(self) -> None:
        """Open one connection after the other while mails are left and the lane's other workers leave us the place."""
        again = True
        while again:
            worn = await self._tools.watchdog.guard(self._open_and_send, self._given_up)
            fits = self.running <= self.reception.concurrency.allowed
            again = worn and fits and self._site.stays(self)
            if handed_on := worn and self._places.hand_on():
                # This one asks again after it.
                again, self._full_until = False, self._tools.clock.monotonic() + SHUT_FOR
            again = await self._places.leave(again=again, handed_on=handed_on)
        self._site.session_ended(self)

    async def _open_and_send(self, step: Step) -> bool:
        """One connection, from its greeting to its end; whether it was worn out."""
        since = self.reception.concurrency.falls
        self._dialling += 1
        try:
            if not await self._may_dial():
                return False
            opened = await self._tools.dialer.open(self.lane.hosts, terms_of(self._shape), self._egress)
        finally:
            self._dialling -= 1
        if isinstance(opened, Unbound):
            self._tools.sources.take_out(self.lane.source, opened.why)
            await self._site.shut()
            return False
        if not isinstance(opened, Session):
            await self._cannot_connect(opened, since)
            return False
        leaves = hung_up = False
        try:
            leaves = await SessionRunner(opened, step, self, self.reception, self._shape, self._tools).run()
            hung_up = not opened.usable
        finally:
            await opened.close()
            self._leaving -= leaves
        if opened.deliveries:
            self.reception.door.connected()
        elif hung_up and self._site.waits(self) and not leaves and not self._site.draining:
            # Dialled again at once, such a server would be dialled for ever.
            await self._cannot_connect(Lost(Stage.EHLO, "the server closed before the first mail", opened.host), since)
        return opened.deliveries >= self.reception.most_deliveries

    async def _may_dial(self) -> bool:
        """Whether a connection may be opened; waits a moment until it may. False: no other session before then."""
        text = self._shape.max_connection_rate
        while text and (limit := rate(text)):
            wait = await self._tools.dials.take(Dial(self.lane.id, limit.per_second, limit.burst))
            if wait == 0:
                break
            if wait > PATIENCE or self._site.draining:
                self._full_until = self._tools.clock.monotonic() + min(wait, CLOSED_LONGEST)
                return False
            await self._tools.clock.sleep(wait)
        return True

    async def _given_up(self, step: Step) -> None:
        """The watchdog has ended a session: nothing that it held is lost, and nobody waits for the settler."""
        rows: list[Ending] = [step.last] if step.last is not None else []
        match step.phase, step.mail:
            case Phase.SIGN | Phase.BEGIN, Mail() as mail:
                rows.append(Released(mail.facts))
            case Phase.SEND, Mail() as mail:
                lost = Lost(Stage.DOT, "ended by the watchdog", self.lane.name)
                trip = Trip(self.lane.source, "", site=self.lane.name)
                rows.append(self.reception.ending(mail, lost, self.reception.concurrency.falls, trip))
        for row in rows:
            await self._tools.settler.batcher.submit(row)

    # What its sessions ask

    @property
    def is_draining(self) -> bool:
        """Whether nothing should be waited for any more."""
        return self._site.draining

    def is_crowded(self) -> bool:
        """Whether this session is to end because there are too many; then it counts as one that leaves."""
        if self._places.must_look():
            self._run(self._look())
        leaves = self._places.running - self._leaving > min(self.reception.most_sessions, self._places.kept)
        self._leaving += leaves
        return leaves

    async def _look(self) -> None:
        """Learn whether other workers lack sessions that are beyond our share; those that are idle end at once."""
        await self._places.look()
        surplus = self._places.running - self._leaving - self._places.kept
        while surplus > 0 and self._idle:
            _answer(self._idle.pop(0), False)
            surplus -= 1

    def take(self) -> Mail | None:
        """The next mail for a session."""
        return self._site.take(self, urgent=len(self._idle) < self._keeps)

    async def mail_arrives(self) -> bool:
        """Wait for one. False when none came for too long, or the session is to end."""
        if self._site.draining or self._tools.providers.is_tight(self._provider, self.lane.id):
            return False
        arrived: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._idle.append(arrived)
        try:
            async with asyncio.timeout(seconds(self._shape.idle_timeout)):
                return await arrived
        except TimeoutError:
            return False
        finally:
            if arrived in self._idle:
                self._idle.remove(arrived)

    def offer(self, mail: Mail) -> Offer:
        """To begin it."""
        yields = bool(self._keeps) and mail.facts.class_ != TRANSACTIONAL
        return Offer(mail.facts, self.lane.id, yields)

    async def leave(self, mail: Mail, wait: float) -> None:
        """There is no token for it here for so many seconds: to others, or back."""
        await self._shut(wait, f"nothing begins for {wait:,.0f} s")
        if not self._site.put_back(mail, self):
            await self._settle(Released(mail.facts))

    async def cannot_send(self) -> None:
        """Nothing is left of the day's allowance: what waits goes by other sources, or back."""
        await self._site.shut()

    @property
    def _keeps(self) -> int:
        """How many sessions other mail leaves to transactional mail."""
        return int(self._places.running > 1 and self._tools.clock.monotonic() < self._site.keeps_until)

    # What cannot be sent now

    async def _cannot_connect(self, failure: Result, since: int) -> None:
        """One mail pays for the attempt where no other source could take it; the others wait until the lane opens."""
        now = self._tools.clock.monotonic()
        if not self.reception.door.is_open(now):
            return  # several sessions were being opened at once; the first to fail has closed the lane
        # Closed for us at once: the lane is not to have its mail back.
        closed = self.reception.door.cannot_connect(now)
        await self._pay(failure, since)
        if closed:
            outcome = classify(failure)
            await self._close(closed, outcome.reply if isinstance(outcome, Deferred) else str(outcome))

    def _is_closed(self, closed: float, why: str) -> None:
        self._run(self._close(closed, why))

    async def _close(self, closed: float, why: str) -> None:
        """For all workers; mails that wait here go by other sources, or back."""
        log.warning("lane closed", extra={
            "site": self.lane.name, "source": self.lane.source, "seconds": closed, "why": why
        })  # fmt: skip
        await self._shut(closed, why)
        try:
            async with self._tools.pool.acquire() as conn:
                await store.close_lane(conn, self.lane.id, closed, why)
        except AWAY as error:
            log.warning("lane not closed for others", extra={"why": repr(error)})

    async def _pay(self, failure: Result, since: int) -> None:
        mail = self._site.take(self)
        if mail is None or self._site.put_back(mail, self):
            return
        await self._settle(
            self.reception.ending(mail, failure, since, Trip(self.lane.source, failure.host, site=self.lane.name))
        )

    async def _shut(self, closed: float = SHUT_FOR, why: str = "") -> None:
        self.reception.door.shut(self._tools.clock.monotonic(), closed, why)
        await self._site.shut()

    async def _settle(self, row: Ending) -> None:
        await self._tools.settler.batcher.put(row)


def _answer(waiter: asyncio.Future[bool], answer: bool) -> None:
    if not waiter.done():
        waiter.set_result(answer)
