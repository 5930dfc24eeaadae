"""What waiting for a database, or for a disk, has in common: try again, and say why, but not each time."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mtad.base.clock import Clock
from mtad.base.db import AWAY
from mtad.base.errors import DatabaseAway, Problem

T = TypeVar("T")

# Seconds before the second try; doubled from try to try, up to the longest.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0

# A reason is said when it is a new one, and again after so many seconds.
REMIND = 60.0


async def until_it_works(work: Callable[[], Awaitable[T]], clock: Clock, log: logging.Logger, waiting: str) -> T:
    """What `work` returns in the end. Whatever it raises is waited out, and logged as the reason for `waiting`:
    as a warning where a wait alone may mend it, else as an error.
    """
    pause, said, said_at = FIRST_PAUSE, "", 0.0
    while True:
        try:
            return await work()
        except Exception as error:  # noqa: BLE001 - who waits here has others to look after
            why = str(error) if isinstance(error, Problem) else repr(error)
            if why != said or clock.monotonic() - said_at >= REMIND:
                said, said_at = why, clock.monotonic()
                level = logging.WARNING if isinstance(error, (DatabaseAway, *AWAY)) else logging.ERROR
                log.log(level, waiting, extra={"why": why})
        await clock.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
