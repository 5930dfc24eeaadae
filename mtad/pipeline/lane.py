"""One lane in one worker: the mails that wait for it here, and the sessions that take them.

Sessions are opened while mails wait, up to the lane's limit over all workers, and
closed when idle. Each takes one mail after the other:

    sign → settle the mail before and begin this one → send → classify

The next mail is signed before the one before is settled, and begun after that, so at
most one mail a session is ever between begin and the ledger.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence

from prometheus_client import Counter, Histogram

from engine.facts import Reason
from mtad.base.config import Shape, rate, seconds
from mtad.base.db import AWAY
from mtad.compose.faults import ContentFault
from mtad.outcome.classify import classify
from mtad.outcome.kinds import Bounced, Deferred, Delivered, InDoubt
from mtad.pipeline.backlog import TRANSACTIONAL, Backlog
from mtad.pipeline.beginner import VALID, Begun, Turn
from mtad.pipeline.endings import Mail, after_attempt, ended_by_skip, is_trouble, retry_of
from mtad.pipeline.signer import Signed
from mtad.pipeline.terms import terms_of
from mtad.pipeline.tools import Tools
from mtad.queue import store
from mtad.queue.dials import Dial
from mtad.queue.settle import Ending
from mtad.queue.store import Ended, Offer, Released, Returned, Wish
from mtad.queue.workers import IN_DOUBT
from mtad.shape.feedback import Concurrency
from mtad.smtp.results import Lost, Refused, Result, Stage, TooLate
from mtad.wire.session import Session

log = logging.getLogger("mtad.lane")

# Mails claimed ahead for one lane, beside one for each session: below the first another
# claim is urgent, from the second on it takes transactional mail only.
LOW, ENOUGH = 16, 64

# A session is opened for so many waiting mails, since each costs a dialogue of its own;
# where mails have waited for so many seconds, twice as many.
MAILS_A_SESSION = 8
BEHIND_FOR = 1.0

# While a transactional mail was seen within so many seconds, one session and a tenth of
# the tokens are kept for the next.
KEEPS_FOR = 3600.0

# Sessions beyond a worker's share of the lane are kept for so long before others are asked.
KEPT_FOR = 5.0

# Waits for a token up to this many seconds keep the mail in hand.
PATIENCE = 1.0

# After a connection could not be had: closed for this, doubled each time, at most the last.
CLOSED_FIRST, CLOSED_LONGEST = 10.0, 600.0

# After the lane was found closed, or without tokens or free sessions, this worker
# claims nothing for it for so long. Longer waits are the site's hint in the database,
# so that a lane which is opened by hand is noticed at once.
SHUT_FOR = 1.0

_ATTEMPTS = Counter("mtad_attempts_total", "Attempts by outcome", ["outcome"])
ATTEMPTS = {kind: _ATTEMPTS.labels(outcome=kind.__name__.lower()) for kind in (Delivered, Bounced, Deferred, InDoubt)}
BEGIN_TO_DATA = Histogram(
    "mtad_begin_to_data_seconds", "From the begin of a mail to its DATA",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)  # fmt: skip


class LaneRunner:
    """Takes mails with `add`, sends them with sessions that run in `group`."""

    def __init__(self, lane: store.Lane, shape: Shape, tools: Tools, group: asyncio.TaskGroup) -> None:
        self.lane = lane
        self._shape = shape
        self._tools = tools
        self._group = group
        self._backlog = Backlog()
        self._idle: list[asyncio.Future[bool]] = []  # sessions that wait for a mail; False: close
        self._tasks: set[asyncio.Task[None]] = set()
        self._counting = asyncio.Lock()
        self._concurrency = Concurrency(lane.sessions)
        self._running = 0  # sessions
        self._leaving = 0  # of them, those that are too many since there was trouble
        self._held = 0  # as many as that, as the database knows
        self._asking = False
        self._more = False  # the last claim took as much as it may
        self._failures = 0
        self._keeps_until = 0.0  # monotonic; a session, for transactional mail
        self._behind_since = 0.0  # monotonic; since when mails wait without an end
        self._shut_until = 0.0
        self._full_until = 0.0  # no further session before
        self._held_until = 0.0  # what is held need not be asked for again before
        self._draining = False
        self._retries = [retry_of(class_, tools.retries, shape) for class_ in range(3)]

    # What the claimer asks

    @property
    def waiting(self) -> int:
        return len(self._backlog)

    @property
    def running(self) -> int:
        """Its sessions."""
        return self._running

    @property
    def is_low(self) -> bool:
        """Whether its sessions will soon have nothing to do, though more is queued."""
        return self._more and len(self._backlog) < LOW + self._running

    @property
    def is_full(self) -> bool:
        """Whether bulk mail that is claimed for it would only lie here."""
        return len(self._backlog) >= ENOUGH + self._running

    def asked(self) -> None:
        """A claim is made for it: what it does not bring is not there."""
        self._more = False

    def is_shut(self, now: float) -> bool:
        """Whether nothing should be claimed for it."""
        return now < self._shut_until

    def is_over(self, now: float) -> bool:
        """Whether nothing is left to remember of it."""
        return not (self._tasks or self._backlog or self._failures or now < self._shut_until)

    def add(self, mails: Sequence[Mail]) -> None:
        """Take mails; wakes or opens the sessions that they need."""
        now = self._tools.clock.monotonic()
        if not self._backlog:
            self._behind_since = now
        if any(mail.facts.class_ == TRANSACTIONAL for mail in mails):
            self._keeps_until = now + KEEPS_FOR
        self._backlog.add(mails)
        self._more |= len(mails) >= store.MOST_A_SITE
        self._wake()
        self._open_for_backlog()

    def grow(self, now: float) -> None:
        """More sessions where mails wait for long: those there are do not suffice, and others may leave some."""
        if self._backlog and (not self._running or now - self._behind_since > BEHIND_FOR):
            self._behind_since = now
            self._open(max(self._running, 1), growing=True)

    def close_idle(self) -> None:
        """End sessions that wait for a mail: others need the room."""
        kept = 0 if self._draining else self._keeps
        while len(self._idle) > kept:
            _answer(self._idle.pop(), False)

    async def drain(self) -> None:
        """Give back what waits; let each session finish the mail in its hand."""
        self._draining = True
        self.close_idle()
        await self._give_back()
        while self._tasks:  # one that asks for sessions may still be granted some
            await asyncio.wait(self._tasks)

    def abort(self) -> None:
        """End sessions where they are; what was begun is in doubt."""
        for task in self._tasks:
            task.cancel()

    @property
    def _keeps(self) -> int:
        """How many sessions other mail leaves to transactional mail."""
        return int(self._running > 1 and self._tools.clock.monotonic() < self._keeps_until)

    # How many sessions

    def _open_for_backlog(self) -> None:
        self._open(-(-len(self._backlog) // MAILS_A_SESSION) - self._running)

    def _open(self, number: int, *, growing: bool = False) -> None:
        number = min(number, self._concurrency.allowed - self._running)
        if number <= 0 or self._asking or self._draining or self._tools.clock.monotonic() < self._full_until:
            return
        self._asking = True
        self._run(self._take(number, growing=growing))

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = self._group.create_task(work, name=f"lane {self.lane.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, number: int, *, growing: bool) -> None:
        async with self._counting:
            await self._hold(self._running + number, growing=growing)
            opened = self._held - self._running
            self._running += opened
            self._asking = False
        for _ in range(opened):
            self._run(self._session())
        if opened < number:
            # All workers together hold what the lane allows. Asking again for each mail
            # would hold up begin, which needs the lane's row too.
            now = self._tools.clock.monotonic()
            self._full_until = now + SHUT_FOR
            self._behind_since = now + KEPT_FOR
        if not self._running:
            self._shut()
            await self._give_back()

    async def _session(self) -> None:
        """Open one connection after the other while mails are left and the lane's other workers leave us the place."""
        again = True
        while again:
            worn = await self._open_and_send()
            fits = self._running <= self._concurrency.allowed
            again = worn and fits and bool(self._backlog) and not self._draining
            if again and self._tools.clock.monotonic() < self._held_until:
                continue
            self._running -= 1
            async with self._counting:
                if again or self._held > self._running:  # else another that ended has said so for both
                    await self._hold(self._running + again)
                again = self._held > self._running
                self._running += again
        if self._backlog:
            self._wake()
            self._open(1)

    async def _hold(self, wanted: int, *, growing: bool = False) -> None:
        self._held = await self._tools.sessions.hold(Wish(self.lane.id, wanted, self._running, growing), self._held)
        self._held_until = self._tools.clock.monotonic() + KEPT_FOR

    async def _open_and_send(self) -> bool:
        """One connection, from its greeting to its end; whether it was worn out."""
        if not await self._may_dial():
            return False
        since = self._concurrency.falls
        opened = await self._tools.dialer.open(self.lane.hosts, terms_of(self._shape))
        if not isinstance(opened, Session):
            await self._cannot_connect(opened, since)
            return False
        leaves = False
        try:
            leaves = await self._send_all(opened)
        finally:
            await opened.close()
            self._leaving -= leaves
        if opened.deliveries:
            self._failures = 0
        elif self._backlog and not opened.usable and not leaves and not self._draining:
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
            if wait > PATIENCE or self._draining:
                self._full_until = self._tools.clock.monotonic() + min(wait, CLOSED_LONGEST)
                return False
            await self._tools.clock.sleep(wait)
        return True

    # One session

    async def _send_all(self, session: Session) -> bool:
        """Until the session is over; whether it ends because there are too many."""
        last: Ended | Returned | None = None  # what became of the mail before, not settled yet
        leaves = False
        while session.alive() and session.deliveries < self._most_deliveries:
            if leaves := self._running - self._leaving > self._most_sessions:
                self._leaving += 1
                break
            mail = self._backlog.take(urgent=len(self._idle) < self._keeps)
            if mail is None:
                if last is not None:
                    await self._settle(last)
                    last = None
                elif not await self._mail_arrives():
                    break
                continue
            try:
                signed = await self._tools.signer.sign(mail)
            except ContentFault as fault:
                await self._settle(ended_by_skip(mail.facts, mail.program, fault.reason))
                continue
            last = await self._send(session, mail, signed, last)
        if last is not None:
            await self._settle(last)
        return leaves

    async def _send(
        self, session: Session, mail: Mail, signed: Signed, last: Ended | Returned | None
    ) -> Ended | Returned | None:
        """One mail over one session; what became of it, None when it went back. `last` is settled."""
        while True:
            begun = await self._begin(mail, last)
            last = None
            if begun is None:
                return None
            since = self._concurrency.falls
            try:
                result = await session.send(signed.return_path, signed.recipient, signed.message, data_by=begun.data_by)
            except ValueError as defect:
                return ended_by_skip(mail.facts, mail.program, f"{Reason.CONTENT}:{defect}")
            if not isinstance(result, TooLate):
                if session.data_at >= begun.data_by - VALID:  # it came as far as DATA
                    BEGIN_TO_DATA.observe(session.data_at - (begun.data_by - VALID))
                return self._ending(mail, result, since)
            if not session.usable:
                # Closed by the server while idle: not an attempt.
                await self._settle(Released(mail.facts))
                return None

    async def _begin(self, mail: Mail, last: Ended | Returned | None) -> Begun | None:
        """The begin of a mail that may go now; None when it has been given back instead. `last` is settled."""
        while True:
            begun = await self._tools.beginner.begin(Turn(self._offer(mail), last))
            last = None
            if begun.wait == 0:
                return begun
            if begun.wait is None or begun.wait > PATIENCE or self._draining:
                if begun.wait is not None:
                    self._shut()
                    await self._give_back()
                await self._settle(Released(mail.facts))
                return None
            await self._tools.clock.sleep(begun.wait)

    def _offer(self, mail: Mail) -> Offer:
        yields = bool(self._keeps) and mail.facts.class_ != TRANSACTIONAL
        return Offer(mail.facts, self.lane.id, yields)

    def _ending(self, mail: Mail, result: Result, since: int) -> Ended | Returned:
        outcome = classify(result)
        ATTEMPTS[type(outcome)].inc()
        if isinstance(result, Refused) and isinstance(outcome, Deferred | Bounced):
            self._tools.automation.heard(self.lane, mail.program.name, result, outcome)
        if is_trouble(outcome):
            self._concurrency.troubled(since)
        else:
            self._concurrency.succeeded(since)
            self._open_for_backlog()
        if isinstance(outcome, InDoubt):
            IN_DOUBT.labels(cause="no_answer").inc()
        retry = self._retries[mail.facts.class_]
        return after_attempt(mail, outcome, retry, now=self._tools.clock.now(), luck=self._tools.luck())

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
        if self._draining:
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

    def _wake(self) -> None:
        # The one that fell idle last: the others may close.
        for _ in range(min(len(self._backlog), len(self._idle))):
            _answer(self._idle.pop(), True)

    # What cannot be sent now

    async def _cannot_connect(self, failure: Result, since: int) -> None:
        """One mail pays for the attempt; the others wait until the lane opens again."""
        if self._tools.clock.monotonic() < self._shut_until:
            return  # several sessions were being opened at once; the first to fail has closed the lane
        self._failures += 1
        beyond = self._failures - self._shape.consecutive_connection_failures_before_delay
        if beyond < 0:
            if mail := self._backlog.take():
                await self._settle(self._ending(mail, failure, since))
            return
        closed = min(CLOSED_FIRST * 2 ** min(beyond, 10), CLOSED_LONGEST)
        outcome = classify(failure)
        why = outcome.reply if isinstance(outcome, Deferred) else str(outcome)
        log.warning("lane closed", extra={"site": self.lane.name, "seconds": closed, "why": why})
        self._shut()
        if mail := self._backlog.take():
            await self._settle(self._ending(mail, failure, since))
        await self._give_back()
        try:
            async with self._tools.pool.acquire() as conn:
                await store.close_lane(conn, self.lane.id, closed, why)
        except AWAY as error:
            log.warning("lane not closed for others", extra={"why": repr(error)})

    def _shut(self) -> None:
        self._more = False
        self._shut_until = self._tools.clock.monotonic() + SHUT_FOR

    async def _give_back(self) -> None:
        done = [await self._tools.settler.batcher.submit(Released(mail.facts)) for mail in self._backlog.clear()]
        await asyncio.gather(*done)

    async def _settle(self, row: Ending) -> None:
        await self._tools.settler.batcher.put(row)


def _answer(waiter: asyncio.Future[bool], answer: bool) -> None:
    if not waiter.done():
        waiter.set_result(answer)
