"""One signer a worker: composes and signs the next mails that sessions want.

A signature of RSA-2048 takes 0.25 to 0.45 ms and holds the loop. One per turn keeps every
step of the loop about as short as one signature, so the tracker answers in between; signing
what all sessions want in one go raised its p99 from 30 to 98 ms. Composing takes less, and
half as much again when everything else has been in the caches since the last mail: so up to
eight are composed first, as many in a turn as it has time for, and then signed, likewise, or
all at once where the processor can, in 1.1 ms.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping

import msgspec

from engine.facts import Reason
from mtad.base.clock import Clock
from mtad.base.source import DEFAULT
from mtad.compose.composer import Composed, Composer
from mtad.compose.faults import ContentFault
from mtad.dkim.keys import signatures
from mtad.dkim.multibuffer import LANES, Multibuffer
from mtad.dkim.sign import Draft, NotCovered
from mtad.dkim.sign import Signer as Dkim
from mtad.pipeline.backlog import CLASSES, TRANSACTIONAL
from mtad.pipeline.endings import Mail

BULK = 2

# A turn of the loop begins no further mail or signature after so many seconds.
TURN = 0.0002

# Mails composed before the first of them is signed; a transactional one overtakes them.
AHEAD = LANES


class Signed(msgspec.Struct, frozen=True, gc=False):
    """A mail ready for the wire."""

    return_path: str
    recipient: str
    message: bytes
    safe_from: int | None = None  # as Session.send has it: where the body begins that compose made


Wanted = tuple[Mail, str, asyncio.Future[Signed]]
Drafted = tuple[Composed, Draft, asyncio.Future[Signed]]


class Signer:
    """Mails in, signed messages out: class by class, in the order in which they were asked for."""

    def __init__(
        self,
        composer: Composer,
        dkim: Dkim,
        clock: Clock,
        by_source: Mapping[str, Dkim] = {},
        multibuffer: Multibuffer | None = None,
    ) -> None:
        """`by_source`: who signs instead of `dkim` what leaves through a source with keys of its own."""
        self._by_source = by_source
        self._composer = composer
        self._dkim = dkim
        self._clock = clock
        self._multibuffer = multibuffer
        self._at_once = LANES if multibuffer else 1
        self._wanted: tuple[deque[Wanted], ...] = tuple(deque() for _ in range(CLASSES))
        self._waiting = 0  # how many those are
        self._drafts: deque[Drafted] = deque()
        self._asked = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether mails wait to be signed, and will soon be offered to begin."""
        return self._waiting > 0 or bool(self._drafts)

    async def sign(self, mail: Mail, source: str = DEFAULT) -> Signed:
        """The signed message, to leave through `source`; ContentFault when it cannot be made for this contact."""
        done: asyncio.Future[Signed] = asyncio.get_running_loop().create_future()
        self._wanted[mail.facts.class_].append((mail, source, done))
        self._waiting += 1
        self._asked.set()
        return await done

    async def run(self) -> None:
        """Sign until cancelled."""
        monotonic = self._clock.monotonic
        while True:
            turn_ends = monotonic() + TURN
            for _ in self._steps():
                if monotonic() >= turn_ends:
                    await asyncio.sleep(0)
                    turn_ends = monotonic() + TURN
            self._asked.clear()
            await self._asked.wait()

    def _steps(self) -> Iterator[None]:
        """Until nothing is wanted."""
        while self._waiting:
            while self._waiting and len(self._drafts) < AHEAD:
                self._draft_next()
                yield
            while self._drafts:
                drafted = len(self._drafts)
                if self._wanted[TRANSACTIONAL]:
                    self._draft_next()
                    self._drafts.rotate(len(self._drafts) - drafted)  # to the front, if there is one more
                self._sign_drafts()
                yield

    def _draft_next(self) -> None:
        mail, source, done = next(filter(None, self._wanted)).popleft()
        self._waiting -= 1
        if done.done():  # its session was cancelled
            return
        try:
            composed, draft = self._draft(mail, source)
        except ContentFault as fault:
            done.set_exception(fault)
        else:
            self._drafts.append((composed, draft, done))

    def _draft(self, mail: Mail, source: str) -> tuple[Composed, Draft]:
        now = self._clock.now()
        composed = self._composer.compose(mail.facts, mail.program, mail.stream, now)
        try:
            draft = self._by_source.get(source, self._dkim).draft(
                composed.headers,
                composed.body,
                composed.from_domain,
                int(now.timestamp()),
                return_domain=composed.return_domain,
                stream=mail.stream.name,
                bulk=mail.facts.class_ == BULK,
                canonical=True,
            )
        except NotCovered as error:
            raise ContentFault(f"{Reason.CONTENT}:{error}") from None
        return composed, draft

    def _sign_drafts(self) -> None:
        first = [self._drafts.popleft() for _ in range(min(self._at_once, len(self._drafts)))]
        drafts = [one for one in first if not one[2].done()]  # else its session was cancelled
        made = iter(signatures([one for _, draft, _ in drafts for one in draft.wanted], self._multibuffer))
        for composed, draft, done in drafts:
            message = composed.message(draft.signed([next(made) for _ in draft.wanted]))
            body_at = len(message) - len(composed.body)
            done.set_result(Signed(composed.return_path, composed.recipient, message, body_at))
