"""One lane in one worker: the sessions from one source to one site, which take the mails that wait there.

Sessions are opened when the site asks for them, up to the lane's limit over all workers,
and closed when idle. Each takes one mail after the other:

    sign → settle the mail before and begin this one → send → classify

The next mail is signed before the one before is settled, and begun after that, so at
most one mail a session is ever between begin and the ledger.
"""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import date
from functools import cache
from math import inf
from typing import Protocol

from prometheus_client import Counter, Histogram

from engine.facts import Reason
from mtad.base.config import Shape, rate, seconds
from mtad.base.db import AWAY
from mtad.compose.faults import ContentFault
from mtad.outcome.classify import classify
from mtad.outcome.kinds import Bounced, Deferred, Delivered, InDoubt, Outcome, Scope
from mtad.pipeline.backlog import TRANSACTIONAL
from mtad.pipeline.beginner import VALID, Begun, Turn
from mtad.pipeline.door import CLOSED_LONGEST, SHUT_FOR, Door
from mtad.pipeline.endings import Mail, after_attempt, ended_by_skip, is_trouble, lenient, retry_of
from mtad.pipeline.signer import Signed
from mtad.pipeline.tools import Tools
from mtad.pipeline.watchdog import BEGIN, IDLE, SEND, SIGN, Phase, Step
from mtad.queue import store
from mtad.queue.dials import Dial
from mtad.queue.providers import Pace
from mtad.queue.settle import Ending
from mtad.queue.store import Ended, Offer, Released, Returned, Trip, Wish
from mtad.queue.workers import IN_DOUBT
from mtad.shape.feedback import Concurrency
from mtad.smtp.results import Lost, Refused, Result, Stage, TooLate
from mtad.wire.egress import Unbound
from mtad.wire.session import Session
from mtad.wire.terms import terms_of

log = logging.getLogger("mtad.lane")

# Sessions beyond a worker's share of the lane are kept for so long before others are asked.
KEPT_FOR = 5.0

# Waits for a token up to this many seconds keep the mail in hand.
PATIENCE = 1.0

ATTEMPTS = Counter(
    "mtad_attempts_total", "Attempts by outcome, source and provider", ["outcome", "source", "provider"]
)  # fmt: skip
BEGIN_TO_DATA = Histogram(
    "mtad_begin_to_data_seconds", "From the begin of a mail to its DATA",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)  # fmt: skip


# A refusal for one of these says that somebody does not trust the source.
BLAMING = (Scope.SOURCE, Scope.SENDER, Scope.POLICY, Scope.DESTINATION)


@cache  # the tail makes lanes all the time
def _attempts(source: str, provider: str) -> dict[type[Outcome], Counter]:
    kinds = (Delivered, Bounced, Deferred, InDoubt)
    return {
        kind: ATTEMPTS.labels(outcome=kind.__name__.lower(), source=source, provider=provider) for kind in kinds
    }  # fmt: skip


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
        self.running = 0  # sessions
        self.asked = 0  # sessions that will be asked for
        self._dialling = 0  # sessions that no server has greeted yet
        self._shape = shape
        self._site = site
        self._tools = tools
        self._group = group
        self._provider = lane.source, lane.provider
        self._egress = tools.sources.egress(lane.source)
        self._allowance = tools.allowances.of(lane.source, lane.provider)  # None: the source is established
        self._attempts = _attempts(lane.source, lane.provider)
        self._idle: list[asyncio.Future[bool]] = []  # sessions that wait for a mail; False: close
        self._tasks: set[asyncio.Task[None]] = set()
        self._counting = asyncio.Lock()
        self._concurrency = Concurrency(lane.sessions)
        self._leaving = 0  # of them, those that are too many since there was trouble
        self._held = 0  # as many as run, as the database knows
        self._asking = False
        self._grows = False  # what is asked for goes beyond the worker's share
        self._door = Door(shape.consecutive_connection_failures_before_delay)
        self._full_until = 0.0  # no further session before
        self._held_until = 0.0  # what is held need not be asked for again before
        self._retries = [retry_of(class_, tools.retries, shape) for class_ in range(3)]

    # What the site asks

    def can(self, now: float) -> bool:
        """Whether its mails could go: it is open, and its source is well."""
        if not self._door.is_open(now) or not self._tools.sources.is_well(self.lane.source):
            return False
        if self._shape.provider_message_rate and self._tools.providers.is_out(self._provider):
            return False
        return self._allowance is None or not self._allowance.is_used_up

    def opens_in(self, now: float) -> float:
        """Seconds until it may send again, as far as this worker knows; infinite: not by itself."""
        if self._allowance is not None and self._allowance.is_used_up:
            return inf
        return self._door.opens_in(now)

    @property
    def shut_why(self) -> str:
        """What was the last to close it."""
        return self._door.why

    @property
    def coming(self) -> int:
        """Sessions on their way, that will take a mail each."""
        return self.asked + self._dialling

    @property
    def is_warming(self) -> bool:
        """Whether its mails should go to those who are known best to read."""
        return self._allowance is not None

    def room(self, now: float) -> int:
        """How many further sessions it may ask for."""
        if now < self._full_until or not self.can(now):
            return 0
        return self._concurrency.allowed - self.running - self.asked

    def is_over(self, now: float) -> bool:
        """Whether nothing is left to remember of it."""
        return not self._tasks and self._door.is_spotless(now)

    def open(self, number: int, *, growing: bool = False) -> None:
        """Ask for so many further sessions, no more than it has room for."""
        self.asked += number
        self._grows |= growing
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

    @property
    def _keeps(self) -> int:
        """How many sessions other mail leaves to transactional mail."""
        return int(self.running > 1 and self._tools.clock.monotonic() < self._site.keeps_until)

    # How many sessions

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = self._group.create_task(work, name=f"lane {self.lane.source}/{self.lane.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self) -> None:
        while self.asked:
            if self._allowance is not None and not await self._allowance.ready():
                self.asked = 0
                break
            async with self._counting:
                number, growing = self.asked, self._grows
                self._grows = False
                await self._hold(self.running + number, growing=growing)
                # In this order: a lane that is closed must not keep the provider's from others.
                allowed = await self._provider_allows(self._held - self.running)
                if allowed < self._held - self.running:
                    await self._hold(self.running + allowed, growing=growing)
                opened = self._held - self.running
                self.running += opened
                self.asked -= number
            await self._provider_has_back(allowed - opened)
            for _ in range(opened):
                self._run(self._session())
            if opened < number:
                # All workers together hold what the lane allows. Asking again for each mail
                # would hold up begin, which needs the lane's row too.
                self._full_until = self._tools.clock.monotonic() + SHUT_FOR
                self.asked = 0
                self._site.falls_short()
        self._asking = False
        if not self.running:
            await self._shut()
        elif self._tools.clock.monotonic() < self._full_until:
            self._site.open_for_backlog()

    async def _session(self) -> None:
        """Open one connection after the other while mails are left and the lane's other workers leave us the place."""
        again = True
        while again:
            worn = await self._tools.watchdog.guard(self._open_and_send, self._given_up)
            fits = self.running <= self._concurrency.allowed
            again = worn and fits and self._site.stays(self)
            if worn and self._tools.providers.is_tight(self._provider, self.lane.id):
                # Another site of the provider waits for a session: this one asks again after it.
                again, self._full_until = False, self._tools.clock.monotonic() + SHUT_FOR
            if again and self._tools.clock.monotonic() < self._held_until:
                continue
            self.running -= 1
            async with self._counting:
                if again or self._held > self.running:  # else another that ended has said so for both
                    await self._hold(self.running + again)
                again = self._held > self.running
                self.running += again
        await self._provider_has_back(1)
        self._site.session_ended(self)

    async def _provider_allows(self, number: int) -> int:
        """How many further sessions all sites of the provider together leave to this lane."""
        most = self._shape.provider_connection_limit
        if not (most and number):
            return number
        return await self._tools.providers.take(self._provider, most, number, self.lane.id)

    async def _provider_has_back(self, number: int) -> None:
        if number and (most := self._shape.provider_connection_limit):
            await self._tools.providers.give_back(self._provider, most, number)

    async def _hold(self, wanted: int, *, growing: bool = False) -> None:
        self._held = await self._tools.sessions.hold(Wish(self.lane.id, wanted, self.running, growing), self._held)
        self._held_until = self._tools.clock.monotonic() + KEPT_FOR

    async def _open_and_send(self, step: Step) -> bool:
        """One connection, from its greeting to its end; whether it was worn out."""
        since = self._concurrency.falls
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
            leaves = await self._send_all(opened, step)
            hung_up = not opened.usable
        finally:
            await opened.close()
            self._leaving -= leaves
        if opened.deliveries:
            self._door.connected()
        elif hung_up and self._site.waits(self) and not leaves and not self._site.draining:
            # Dialled again at once, such a server would be dialled for ever.
            await self._cannot_connect(Lost(Stage.EHLO, "the server closed before the first mail", opened.host), since)
        return opened.deliveries >= self._most_deliveries

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

    # One session

    async def _send_all(self, session: Session, step: Step) -> bool:
        """Until the session is over; whether it ends because there are too many."""
        last: Ended | Returned | None = None  # what became of the mail before, not settled yet
        leaves = False
        while session.alive() and session.deliveries < self._most_deliveries:
            step.phase = IDLE
            if leaves := self.running - self._leaving > self._most_sessions:
                self._leaving += 1
                break
            day: date | None = None
            if self._allowance is not None and (day := await self._allowance.take()) is None:
                await self._site.shut()
                break
            mail = self._site.take(self, urgent=len(self._idle) < self._keeps)
            if mail is None:
                self._put_back(day)
                if last is not None:
                    await self._settle(last)
                    last = None
                elif not await self._mail_arrives():
                    break
                continue
            step.mail, step.last = mail, last
            step.phase = SIGN
            try:
                signed = await self._tools.signer.sign(mail, self.lane.source)
            except ContentFault as fault:
                step.phase = IDLE
                self._put_back(day)
                await self._settle(ended_by_skip(mail.facts, mail.program, fault.reason))
                continue
            last = await self._send(session, mail, signed, step)
            if last is None:
                self._put_back(day)
        step.phase = IDLE
        if last is not None:
            await self._settle(last)
        return leaves

    async def _given_up(self, step: Step) -> None:
        """The watchdog has ended a session: nothing that it held is lost, and nobody waits for the settler."""
        rows: list[Ending] = [step.last] if step.last is not None else []
        match step.phase, step.mail:
            case Phase.SIGN | Phase.BEGIN, Mail() as mail:
                rows.append(Released(mail.facts))
            case Phase.SEND, Mail() as mail:
                lost = Lost(Stage.DOT, "ended by the watchdog", self.lane.name)
                trip = Trip(self.lane.source, "", site=self.lane.name)
                rows.append(self._ending(mail, lost, self._concurrency.falls, trip))
        for row in rows:
            await self._tools.settler.batcher.submit(row)

    def _put_back(self, day: date | None) -> None:
        """What a mail that was not sent had taken of the day's allowance."""
        if self._allowance is not None and day is not None:
            self._allowance.put_back(day)

    async def _send(self, session: Session, mail: Mail, signed: Signed, step: Step) -> Ended | Returned | None:
        """One mail over one session; what became of it, None when it went back. `step.last` is settled."""
        while True:
            step.phase = BEGIN
            begun = await self._begin(mail, step)
            if begun is None:
                return None
            since = self._concurrency.falls
            step.phase = SEND
            try:
                result = await session.send(signed.return_path, signed.recipient, signed.message, data_by=begun.data_by)
            except ValueError as defect:
                return ended_by_skip(mail.facts, mail.program, f"{Reason.CONTENT}:{defect}")
            if not isinstance(result, TooLate):
                if session.data_at >= begun.data_by - VALID:  # it came as far as DATA
                    BEGIN_TO_DATA.observe(session.data_at - (begun.data_by - VALID))
                trip = Trip(
                    self.lane.source, result.host, signed.return_path, len(signed.message), *session.encryption,
                    self.lane.name, self._tools.sources.pool_of(mail.stream), session.local, session.number,
                )  # fmt: skip
                return self._ending(mail, result, since, trip)
            if not session.usable:
                # Closed by the server while idle: not an attempt.
                await self._settle(Released(mail.facts))
                return None

    async def _begin(self, mail: Mail, step: Step) -> Begun | None:
        """The begin of a mail that may go now; None when it has been given back instead. `step.last` is settled."""
        if self._shape.provider_message_rate:
            if step.last is not None:
                await self._settle(step.last)
                step.last = None
            if not await self._provider_bears(mail, step):
                return None
        while True:
            begun = await self._tools.beginner.begin(Turn(self._offer(mail), step.last))
            step.last = None
            if begun.wait == 0:
                return begun
            if begun.wait is None:
                await self._settle(Released(mail.facts))
                return None
            if begun.wait > PATIENCE or self._site.draining:
                await self._leave(mail, begun.wait)
                return None
            await self._tools.clock.sleep(begun.wait)
            step.was_answered()

    async def _provider_bears(self, mail: Mail, step: Step) -> bool:
        """Take a token of all sites of the provider together; waits a moment for one. False: the mail went back."""
        limit = rate(self._shape.provider_message_rate)
        pace = Pace(*self._provider, limit.per_second, limit.burst)
        while wait := await self._tools.providers.pace(pace):
            if wait > PATIENCE or self._site.draining:
                await self._leave(mail, wait)
                return False
            await self._tools.clock.sleep(wait)
            step.was_answered()
        return True

    async def _leave(self, mail: Mail, wait: float) -> None:
        """There is no token for it here for so many seconds: to others, or back."""
        await self._shut(wait, f"nothing begins for {wait:,.0f} s")
        if not self._site.put_back(mail, self):
            await self._settle(Released(mail.facts))

    def _offer(self, mail: Mail) -> Offer:
        yields = bool(self._keeps) and mail.facts.class_ != TRANSACTIONAL
        return Offer(mail.facts, self.lane.id, yields)

    def _ending(self, mail: Mail, result: Result, since: int, trip: Trip) -> Ended | Returned:
        said = classify(result)
        outcome = lenient(said, mail.facts.attempt)
        self._attempts[type(outcome)].inc()
        if isinstance(result, Refused) and isinstance(outcome, Deferred | Bounced):
            self._tools.automation.heard(self.lane, mail.program.name, result, outcome)
        if closed := self._door.heard(said):
            self._run(self._close(closed, said.reply if isinstance(said, Bounced) else ""))
        if self._allowance is not None and isinstance(outcome, Deferred | Bounced) and outcome.scope in BLAMING:
            self._allowance.refused()
        if is_trouble(outcome):
            self._concurrency.troubled(since)
        else:
            self._concurrency.succeeded(since)
            self._site.open_for_backlog()
        if isinstance(outcome, InDoubt):
            IN_DOUBT.labels(cause="no_answer").inc()
        retry = self._retries[mail.facts.class_]
        return after_attempt(
            mail, outcome, retry, now=self._tools.clock.now(), luck=self._tools.luck(), trip=trip
        )  # fmt: skip

    @property
    def _most_sessions(self) -> int:
        limit = self._tools.automation.limits(self.lane.id).sessions
        return self._concurrency.allowed if limit is None else min(limit, self._concurrency.allowed)

    @property
    def _most_deliveries(self) -> int:
        limit = self._tools.automation.limits(self.lane.id).max_deliveries_per_connection
        configured = self._shape.max_deliveries_per_connection
        return configured if limit is None else min(limit, configured)

    async def _mail_arrives(self) -> bool:
        """False when none came for too long, or the session is to end."""
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

    # What cannot be sent now

    async def _cannot_connect(self, failure: Result, since: int) -> None:
        """One mail pays for the attempt where no other source could take it; the others wait until the lane opens."""
        now = self._tools.clock.monotonic()
        if not self._door.is_open(now):
            return  # several sessions were being opened at once; the first to fail has closed the lane
        # Closed for us at once: the lane is not to have its mail back.
        closed = self._door.cannot_connect(now)
        await self._pay(failure, since)
        if closed:
            outcome = classify(failure)
            await self._close(closed, outcome.reply if isinstance(outcome, Deferred) else str(outcome))

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
            self._ending(mail, failure, since, Trip(self.lane.source, failure.host, site=self.lane.name))
        )

    async def _shut(self, closed: float = SHUT_FOR, why: str = "") -> None:
        self._door.shut(self._tools.clock.monotonic(), closed, why)
        await self._site.shut()

    async def _settle(self, row: Ending) -> None:
        await self._tools.settler.batcher.put(row)


def _answer(waiter: asyncio.Future[bool], answer: bool) -> None:
    if not waiter.done():
        waiter.set_result(answer)
