"""One session of a lane: it sends one mail after the other, until it is worn out, too many, or nothing more waits.

    sign → settle the mail before and begin this one → send → classify

The next mail is signed before the one before is settled, and begun after that, so at
most one mail a session is ever between begin and the ledger.
"""

from datetime import date
from typing import Protocol

from engine.facts import Reason
from mtad.base.config import rate
from mtad.base.shape import Shape
from mtad.base.spans import Spans
from mtad.compose.faults import ContentFault
from mtad.pipeline.beginner import VALID, Begun, Turn
from mtad.pipeline.endings import Mail, ended_by_skip
from mtad.pipeline.reception import Reception
from mtad.pipeline.signer import Signed
from mtad.pipeline.tools import Tools
from mtad.pipeline.watchdog import BEGIN, IDLE, SEND, SIGN, Step
from mtad.queue import store
from mtad.queue.providers import Pace
from mtad.queue.settle import Ending
from mtad.queue.store import Ended, Offer, Released, Returned, Trip
from mtad.smtp.results import TooLate
from mtad.wire.session import Session

# Waits for a token up to this many seconds keep the mail in hand.
PATIENCE = 1.0

BEGIN_TO_DATA = Spans(
    "mtad_begin_to_data_seconds", "From the begin of a mail to its DATA",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)  # fmt: skip


class Lane(Protocol):
    """What a session asks of its lane, which has what all its sessions know of the receiver."""

    lane: store.Lane

    @property
    def is_draining(self) -> bool:
        """Whether nothing should be waited for any more."""

    def is_crowded(self) -> bool:
        """Whether this session is to end because there are too many; then it counts as one that leaves."""

    def take(self) -> Mail | None:
        """The next mail for a session."""

    async def mail_arrives(self) -> bool:
        """Wait for one. False when none came for too long, or the session is to end."""

    def offer(self, mail: Mail) -> Offer:
        """To begin it."""

    async def leave(self, mail: Mail, wait: float) -> None:
        """There is no token for it here for so many seconds: to others, or back."""

    async def cannot_send(self) -> None:
        """Nothing is left of the day's allowance: what waits goes by other sources, or back."""


class SessionRunner:
    """Sends by an open `session` what waits for `lane`."""

    def __init__(
        self, session: Session, step: Step, lane: Lane, reception: Reception, shape: Shape, tools: Tools
    ) -> None:
        """`step` is where the watchdog sees it."""
        self._session = session
        self._way = *session.encryption, lane.lane.name  # these and the next stay, and a Trip is for each mail
        self._leaves_by = session.local, session.number
        self._step = step
        self._lane = lane
        self._shape = shape
        self._reception = reception
        self._allowance = reception.allowance
        self._tools = tools

    async def run(self) -> bool:
        """Until the session is over, which the caller closes; whether it ends because there are too many."""
        session, step, lane = self._session, self._step, self._lane
        last: Ended | Returned | None = None  # what became of the mail before, not settled yet
        leaves = False
        while session.usable and session.deliveries < self._reception.most_deliveries:
            step.phase = IDLE
            if leaves := lane.is_crowded():
                break
            day: date | None = None
            if self._allowance is not None and (day := await self._allowance.take()) is None:
                await lane.cannot_send()
                break
            mail = lane.take()
            if mail is None:
                self._put_back(day)
                if last is not None:
                    await self._settle(last)
                    last = None
                elif not await lane.mail_arrives():
                    break
                continue
            step.mail, step.last = mail, last
            step.phase = SIGN
            try:
                signed = await self._tools.signer.sign(mail, lane.lane.source)
            except ContentFault as fault:
                step.phase = IDLE
                self._put_back(day)
                await self._settle(ended_by_skip(mail.facts, mail.program, fault.reason))
                continue
            last = await self._send(mail, signed)
            if last is None:
                self._put_back(day)
        step.phase = IDLE
        if last is not None:
            await self._settle(last)
        return leaves

    def _put_back(self, day: date | None) -> None:
        """What a mail that was not sent had taken of the day's allowance."""
        if self._allowance is not None and day is not None:
            self._allowance.put_back(day)

    async def _send(self, mail: Mail, signed: Signed) -> Ended | Returned | None:
        """What became of one mail, None when it went back. The mail before is settled."""
        session, step, lane = self._session, self._step, self._lane
        while True:
            step.phase = BEGIN
            begun = await self._begin(mail)
            if begun is None:
                return None
            since = self._reception.concurrency.falls
            step.phase = SEND
            try:
                result = await session.send(
                    signed.return_path, signed.recipient, signed.message,
                    data_by=begun.data_by, safe_from=signed.safe_from,
                )  # fmt: skip
            except ValueError as defect:
                return ended_by_skip(mail.facts, mail.program, f"{Reason.CONTENT}:{defect}")
            if not isinstance(result, TooLate):
                if (after := session.data_at - (begun.data_by - VALID)) >= 0:  # it came as far as DATA
                    BEGIN_TO_DATA.observe(after)
                trip = Trip(
                    lane.lane.source, result.host, signed.return_path, len(signed.message), *self._way,
                    self._tools.sources.pool_of(mail.stream), *self._leaves_by,
                )  # fmt: skip
                return self._reception.ending(mail, result, since, trip)
            if not session.usable:
                # Closed by the server while idle: not an attempt.
                await self._release(mail)
                return None

    async def _begin(self, mail: Mail) -> Begun | None:
        """The begin of a mail that may go now; None when it has been given back instead. The mail before is settled."""
        step = self._step
        if self._shape.provider_message_rate:
            if step.last is not None:
                step.phase = IDLE  # however long the database takes
                await self._settle(step.last)
                step.last, step.phase = None, BEGIN
            if not await self._provider_bears(mail):
                return None
        while True:
            begun = await self._tools.beginner.begin(Turn(self._lane.offer(mail), step.last))
            step.last = None
            if begun.wait == 0:
                return begun
            if begun.wait is None:
                await self._release(mail)
                return None
            if not await self._waits(mail, begun.wait):
                return None

    async def _provider_bears(self, mail: Mail) -> bool:
        """Take a token of all sites of the provider together; waits a moment for one. False: the mail went back."""
        lane, limit = self._lane.lane, rate(self._shape.provider_message_rate)
        pace = Pace(lane.source, lane.provider, limit.per_second, limit.burst)
        while wait := await self._tools.providers.pace(pace):
            if not await self._waits(mail, wait):
                return False
        return True

    async def _waits(self, mail: Mail, wait: float) -> bool:
        """Wait so many seconds for a token. False: that is too long, and the mail went back."""
        if wait > PATIENCE or self._lane.is_draining:
            self._step.phase = IDLE
            await self._lane.leave(mail, wait)
            return False
        await self._tools.clock.sleep(wait)
        self._step.was_answered()
        return True

    async def _release(self, mail: Mail) -> None:
        """Nothing of it was sent; the database may take as long as it likes to hear of that."""
        self._step.phase = IDLE
        await self._settle(Released(mail.facts))

    async def _settle(self, row: Ending) -> None:
        await self._tools.settler.batcher.put(row)
