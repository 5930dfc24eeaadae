"""How far is a program? From its counters and its queue, so it may be asked every second."""

from collections import deque
from datetime import datetime, timedelta

import msgspec

from mtad.base.clock import Clock
from mtad.base.db import Connection
from mtad.base.sqlfiles import queries
from mtad.ops.answers.counts import Pending, by_reason
from mtad.ops.answers.programs import program_by_name

SQL = queries("answers")

# Long enough to be calm on a screen, short enough to show that a lane was closed.
PACE_WINDOW = timedelta(seconds=10)
# What a single answer waits between its two looks at the counters.
PACE_SAMPLE = 1.0


class Progress(msgspec.Struct, frozen=True):
    """One program at the moment `at`.

    `in_doubt` was given up; `running` are entries. `rate` is deliveries a second,
    `seconds_left` until what is pending now is gone; both None where they cannot be told.
    """

    program: str
    kind: str
    stream: str
    status: str
    why: str | None
    at: datetime
    enrolled: int
    delivered: int
    bounced: int
    expired: int
    in_doubt: int
    skipped: dict[str, int]
    pending: Pending
    running: int
    done: bool
    rate: float | None = None
    seconds_left: float | None = None
    next_due: datetime | None = None  # of the first mail that is queued

    @property
    def ended(self) -> int:
        """Jobs that left the queue, and those left out at the start."""
        return self.delivered + self.bounced + self.expired + self.in_doubt + sum(self.skipped.values())


class Pace:
    """What happened over the last ten seconds; told the time by the samples that it is given."""

    def __init__(self) -> None:
        self._samples: deque[Progress] = deque()

    def measured(self, sample: Progress) -> Progress:
        """The newest sample with its rate and time left; without them until there are two."""
        while self._samples and sample.at - self._samples[0].at > PACE_WINDOW:
            self._samples.popleft()
        self._samples.append(sample)
        oldest = self._samples[0]
        passed = (sample.at - oldest.at).total_seconds()
        if passed <= 0:
            return sample
        leaving = (sample.ended - oldest.ended) / passed
        left = sample.pending.total / leaving if leaving > 0 else None
        return msgspec.structs.replace(sample, rate=(sample.delivered - oldest.delivered) / passed, seconds_left=left)


async def progress(conn: Connection, name: str) -> Progress:
    """Where the program stands, without its pace. `conn` must not be in a transaction."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        program = await program_by_name(conn, name)
        tally: dict[str, int] = {row[0]: row[1] for row in await conn.fetch(SQL["tally_of_program"], program.id)}
        (queue,) = await conn.fetch(SQL["queue_of_program"], program.id)
    pending = Pending(*queue[:4])
    running = queue[4]
    finished = program.status in ("done", "cancelled") or (program.enqueued is not None and running == 0)
    return Progress(
        program=program.name,
        kind=program.kind,
        stream=program.stream,
        status=program.status,
        why=program.why,
        at=program.at,
        enrolled=tally.get("enrolled", 0),
        delivered=tally.get("delivered", 0),
        bounced=tally.get("bounced", 0),
        expired=tally.get("expired", 0),
        in_doubt=tally.get("in_doubt", 0),
        skipped=by_reason(tally, "skipped"),
        pending=pending,
        running=running,
        done=finished and pending.total == 0,
        next_due=queue[5],
    )


async def measured_progress(conn: Connection, name: str, clock: Clock) -> Progress:
    """Where the program stands; a second later, with its pace, if something is being sent."""
    first = await progress(conn, name)
    if first.status != "running" or first.pending.total == 0:
        return first
    pace = Pace()
    pace.measured(first)
    await clock.sleep(PACE_SAMPLE)
    return pace.measured(await progress(conn, name))
