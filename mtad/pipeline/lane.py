"""One lane in one worker: the mails that wait for it here, and the sessions that take them.

Sessions are opened while mails wait, up to the lane's limit over all workers, and
closed when idle. Each takes one mail after the other:

    sign → (the mail before is settled) → begin → send → classify → settle

The next mail is signed while the one before is being settled, but begin waits for
that, so at most one mail a session is ever between begin and the ledger.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable

from prometheus_client import Counter, Histogram

from engine.facts import Reason
from mtad.base.clock import Clock
from mtad.base.config import Shape, seconds
from mtad.base.db import AWAY, Pool
from mtad.compose.faults import ContentFault
from mtad.outcome.classify import classify
from mtad.outcome.kinds import Deferred
from mtad.pipeline.beginner import STALE, VALID, Beginner
from mtad.pipeline.endings import Mail, Retry, after_attempt, ended_by_skip
from mtad.pipeline.signer import Signed, Signer
from mtad.queue import store
from mtad.queue.settle import Settler
from mtad.queue.store import Ended, Offer, Released, Returned
from mtad.smtp.results import Lost, Result, Stage, TooLate
from mtad.wire.session import Dialer, Session

log = logging.getLogger("mtad.lane")

# Mails claimed ahead for one lane; below it another claim is worth its while.
ENOUGH = 32

# Waits for a token up to this many seconds keep the mail in hand.
PATIENCE = 1.0

# After a connection could not be had: closed for this, doubled each time, at most the last.
CLOSED_FIRST, CLOSED_LONGEST = 10.0, 600.0

# After the lane was found closed, or without tokens or free sessions, this worker
# claims nothing for it for so long. Longer waits are the site's hint in the database,
# so that a lane which is opened by hand is noticed at once.
SHUT_FOR = 1.0

OUTCOMES = Counter("mtad_attempts_total", "Attempts by outcome", ["outcome"])
BEGIN_TO_DATA = Histogram(
    "mtad_begin_to_data_seconds", "From the begin of a mail to its DATA",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)  # fmt: skip


class Tools:
    """What all lanes of a worker share."""

    def __init__(
        self, pool: Pool, clock: Clock, worker: int, dialer: Dialer, signer: Signer, beginner: Beginner,
        settler: Settler, luck: Callable[[], float],
    ) -> None:  # fmt: skip
        self.pool = pool
        self.clock = clock
        self.worker = worker
        self.dialer = dialer
        self.signer = signer
        self.beginner = beginner
        self.settler = settler
        self.luck = luck


class LaneRunner:
    """Takes mails with `add`, sends them with sessions that run in `group`."""

    def __init__(self, lane: store.Lane, shape: Shape, tools: Tools, group: asyncio.TaskGroup) -> None:
        self.lane = lane
        self._shape = shape
        self._tools = tools
        self._group = group
        self._ready: deque[Mail] = deque()
        self._arrived = asyncio.Event()
        self._counting = asyncio.Lock()
        self._sessions: set[asyncio.Task[None]] = set()
        self._held = 0  # sessions of this lane that the database knows of
        self._failures = 0
        self._shut_until = 0.0  # monotonic
        self._full_until = 0.0  # likewise: no further session before
        self._draining = False
        self._retry = Retry(
            seconds(shape.retry_interval), seconds(shape.max_retry_interval), seconds(shape.in_doubt_interval)
        )

    @property
    def waiting(self) -> int:
        return len(self._ready)

    @property
    def has_room(self) -> bool:
        """Whether a claim for this lane is welcome."""
        return len(self._ready) < ENOUGH and self._tools.clock.monotonic() >= self._shut_until

    def add(self, mails: Iterable[Mail]) -> None:
        """Take mails; opens the sessions that they need."""
        self._ready.extend(mails)
        self._arrived.set()
        if self._sessions and self._tools.clock.monotonic() < self._full_until:
            return  # those that are open take them
        for _ in range(min(len(self._ready), self.lane.sessions) - len(self._sessions)):
            task = self._group.create_task(self._session(), name=f"session {self.lane.name}")
            self._sessions.add(task)

    async def drain(self) -> None:
        """Give back what waits; let each session finish the mail in its hand."""
        self._draining = True
        self._arrived.set()
        await self._give_back()
        if self._sessions:
            await asyncio.wait(self._sessions)

    def abort(self) -> None:
        """End sessions where they are; what was begun is in doubt."""
        for task in self._sessions:
            task.cancel()

    async def _session(self) -> None:
        """Open one session and send until it is idle, worn out or broken; another follows if mails are left."""
        me = asyncio.current_task()
        assert me is not None
        try:
            await self._open_and_send()
        finally:
            self._sessions.discard(me)
        if self._ready and not self._draining:
            self.add(())

    async def _open_and_send(self) -> None:
        if not await self._take():
            # All workers together hold what the lane allows. Asking again for each mail
            # would hold up begin, which needs the lane's row too.
            self._full_until = self._tools.clock.monotonic() + SHUT_FOR
            if not self._held:
                self._shut()
                await self._give_back()
            return
        session: Session | None = None
        try:
            opened = await self._tools.dialer.open(self.lane.hosts)
            if isinstance(opened, Session):
                session = opened
                await self._send_all(session)
                if session.deliveries:
                    self._failures = 0
                elif self._ready and not session.usable and not self._draining:
                    # Dialled again at once, such a server would be dialled for ever.
                    await self._cannot_connect(
                        Lost(Stage.EHLO, "the server closed before the first mail", session.host)
                    )
            else:
                await self._cannot_connect(opened)
        finally:
            if session is not None:
                await session.close()
            await self._return()

    async def _send_all(self, session: Session) -> None:
        settled: asyncio.Future[bool] | None = None
        while session.usable and session.deliveries < self._shape.max_deliveries_per_connection:
            mail = await self._next()
            if mail is None:
                break
            signed = await self._signed(mail)
            if settled is not None:
                await settled
            if isinstance(signed, Ended):
                settled = await self._submit(signed)
            else:
                settled = await self._send(session, mail, signed)
        if settled is not None:
            await settled

    async def _signed(self, mail: Mail) -> Signed | Ended:
        """The message, or the end of a mail that cannot be made for this contact."""
        try:
            return await self._tools.signer.sign(mail)
        except ContentFault as fault:
            return ended_by_skip(mail.facts, mail.program, fault.reason)

    async def _send(self, session: Session, mail: Mail, signed: Signed) -> asyncio.Future[bool] | None:
        """One mail over one session; the future of its settlement, None when it went back."""
        while (data_by := await self._begin(session, mail)) is not None:
            try:
                result = await session.send(signed.return_path, signed.recipient, signed.message, data_by=data_by)
            except ValueError as defect:
                return await self._submit(ended_by_skip(mail.facts, mail.program, f"{Reason.CONTENT}:{defect}"))
            if not isinstance(result, TooLate):
                if session.data_at >= data_by - VALID:  # it came as far as DATA
                    BEGIN_TO_DATA.observe(session.data_at - (data_by - VALID))
                return await self._settle(mail, result)
            if not session.usable:
                await (await self._submit(Released(mail.facts)))
                return None
        return None

    async def _begin(self, session: Session, mail: Mail) -> float | None:
        """When DATA must be written at the latest; None when the mail has been given back instead."""
        while session.alive():
            try:
                begun = await self._tools.beginner.begin(Offer(mail.facts, self.lane.id))
            except AWAY as error:
                # Whether the begin was committed is not known, but nothing was sent.
                log.warning("begin: the database is away", extra={"why": repr(error)})
                begun = STALE
            if begun.wait == 0:
                return begun.data_by
            if begun.wait is None or begun.wait > PATIENCE or self._draining:
                if begun.wait is not None:
                    self._shut()
                    await self._give_back()
                await (await self._submit(Released(mail.facts)))
                return None
            await self._tools.clock.sleep(begun.wait)
        # Closed by the server while idle: not an attempt, and the mail keeps its place.
        self._ready.appendleft(mail)
        return None

    async def _settle(self, mail: Mail, result: Result) -> asyncio.Future[bool]:
        outcome = classify(result)
        OUTCOMES.labels(outcome=type(outcome).__name__.lower()).inc()
        row = after_attempt(mail, outcome, self._retry, now=self._tools.clock.now(), luck=self._tools.luck())
        return await self._submit(row)

    async def _cannot_connect(self, failure: Result) -> None:
        """One mail pays for the attempt; the others wait until the lane opens again."""
        if self._tools.clock.monotonic() < self._shut_until:
            return  # several sessions were being opened at once; the first to fail has closed the lane
        self._failures += 1
        closed = min(CLOSED_FIRST * 2 ** (self._failures - 1), CLOSED_LONGEST)
        outcome = classify(failure)
        why = outcome.reply if isinstance(outcome, Deferred) else str(outcome)
        log.warning("lane closed", extra={"site": self.lane.name, "seconds": closed, "why": why})
        self._shut()
        if self._ready:
            await (await self._settle(self._ready.popleft(), failure))
        await self._give_back()
        try:
            async with self._tools.pool.acquire() as conn:
                await store.close_lane(conn, self.lane.id, closed, why)
        except AWAY as error:
            log.warning("lane not closed for others", extra={"why": repr(error)})

    async def _next(self) -> Mail | None:
        """The next mail; None when idle for too long or draining."""
        while not self._ready and not self._draining:
            self._arrived.clear()
            try:
                async with asyncio.timeout(seconds(self._shape.idle_timeout)):
                    await self._arrived.wait()
            except TimeoutError:
                return None
        return None if self._draining else self._ready.popleft()

    async def _give_back(self) -> None:
        mails, self._ready = self._ready, deque()
        done = [await self._submit(Released(mail.facts)) for mail in mails]
        await asyncio.gather(*done)

    async def _submit(self, row: Ended | Returned | Released) -> asyncio.Future[bool]:
        return await self._tools.settler.batcher.submit(row)

    def _shut(self) -> None:
        self._shut_until = self._tools.clock.monotonic() + SHUT_FOR

    async def _take(self) -> bool:
        """One more session, if all workers together stay within the limit."""
        async with self._counting:
            if await self._set_sessions(self._held + 1):
                self._held += 1
                return True
            return False

    async def _return(self) -> None:
        async with self._counting:
            self._held -= 1
            await self._set_sessions(self._held)

    async def _set_sessions(self, number: int) -> bool:
        try:
            async with self._tools.pool.acquire() as conn:
                return await store.set_sessions(conn, self.lane.id, self._tools.worker, number)
        except AWAY as error:
            log.warning("sessions not counted", extra={"why": repr(error)})
            return False
