"""Ends what makes no progress: a delivery that hangs, wherever it does, is given up, and says so.

Each stage has a limit beyond all that it may take by its own rules (the time-outs of the
wire, the statement time-out of the database, the wait for a token), so what is found here
is a defect, ours or of what we stand on: it costs one session, and not the mail in its hand.
A session that waits for mail, or for the database to take an outcome, is left alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from enum import StrEnum
from math import inf

from mtad.base.clock import Clock
from mtad.pipeline.endings import Mail
from mtad.queue.store import Ended, Returned
from mtad.smtp.waits import WATCHDOG
from mtad.wire.connection import ENDED
from mtad.wire.hosts import MAX_ADDRESSES

log = logging.getLogger("mtad.watchdog")

# Seconds between two looks.
PERIOD = 30.0


class Phase(StrEnum):
    """Where a session is."""

    IDLE = "idle"
    DIAL = "dial"
    SIGN = "sign"
    BEGIN = "begin"
    SEND = "send"


# An attribute of an Enum is looked up by its metaclass each time, and these are set for each mail.
IDLE, DIAL, SIGN, BEGIN, SEND = Phase

LONGEST: Mapping[Phase, float] = {
    DIAL: MAX_ADDRESSES * WATCHDOG + 600.0,
    SIGN: 600.0,
    BEGIN: 600.0,
    SEND: WATCHDOG + 600.0,
}
"""Seconds that a phase may last."""


class Step:
    """Where one session is, and what would be lost with it. Set for each mail, so it asks no clock."""

    __slots__ = ("ended", "last", "mail", "phase", "seen", "since")

    def __init__(self) -> None:
        self.phase = DIAL
        self.mail: Mail | None = None  # in its hand
        self.last: Ended | Returned | None = None  # what became of the one before, while it is not settled
        # The watchdog's own:
        self.seen: tuple[Phase, Mail | None] | None = None  # when it last looked
        self.since = 0.0  # monotonic; when it first saw that
        self.ended = False

    def was_answered(self) -> None:
        """It asks again for a token that others took before it: that may take any time, and is progress."""
        self.seen = None


class Watchdog:
    """Looks at every session of the worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps: dict[asyncio.Task[object], Step] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(PERIOD)
            self.look()

    @property
    def steps(self) -> Collection[Step]:
        """Where the sessions are."""
        return self._steps.values()

    async def guard(self, work: Callable[[Step], Awaitable[bool]], given_up: Callable[[Step], Awaitable[None]]) -> bool:
        """What `work` returns; False, after `given_up`, when it had to be ended."""
        task = asyncio.current_task()
        assert task is not None
        step = self._steps[task] = Step()
        try:
            return await work(step)
        except asyncio.CancelledError:
            if not step.ended or task.uncancel():  # somebody else ends it, too
                raise
        finally:
            del self._steps[task]
        await given_up(step)
        return False

    def look(self) -> None:
        """End what is where it is for too long."""
        now = self._clock.monotonic()
        for task, step in self._steps.items():
            if (seen := (step.phase, step.mail)) != step.seen:
                step.seen, step.since = seen, now
            elif not step.ended and now - step.since > LONGEST.get(step.phase, inf):
                step.ended = True
                ENDED.labels(stage=step.phase.value).inc()
                log.warning("no progress", extra={"lane": task.get_name(), "stage": step.phase.value})
                task.cancel()
