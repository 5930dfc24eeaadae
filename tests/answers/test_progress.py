"""mtad program status: counters, queue, pace."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mtad.base.clock import SystemClock
from mtad.base.db import Connection
from mtad.cli.answers_view import status_view
from mtad.ops.answers.counts import Pending, by_reason
from mtad.ops.answers.progress import Pace, Progress, measured_progress, progress
from mtad.ops.answers.times import local
from tests.rows import START, Program, Rows

NONE = Pending(0, 0, 0, 0)


def sample(after: float, delivered: int, queued: int, skipped: int = 0) -> Progress:
    return Progress(
        program="nudge", kind="campaign", stream="sales", status="running", why=None,
        at=START + timedelta(seconds=after), enrolled=1000, delivered=delivered, bounced=0, expired=0, in_doubt=0,
        skipped={"unsubscribed": skipped}, pending=msgspec.structs.replace(NONE, waiting=queued), running=0, done=False,
    )  # fmt: skip


def test_the_first_look_has_no_pace() -> None:
    assert Pace().measured(sample(0, 10, 90)) == sample(0, 10, 90)


def test_rate_is_of_deliveries_and_time_left_of_whatever_leaves_the_queue() -> None:
    pace = Pace()
    pace.measured(sample(0, 0, 100))

    now = pace.measured(sample(2, 40, 50, skipped=10))

    assert (now.rate, now.seconds_left) == (20.0, 2.0)


def test_a_queue_that_stands_still_has_no_time_left_to_tell() -> None:
    pace = Pace()
    pace.measured(sample(0, 10, 90))

    now = pace.measured(sample(5, 10, 90))

    assert (now.rate, now.seconds_left) == (0.0, None)


@given(st.floats(0.1, 10.0))
def test_what_is_older_than_ten_seconds_is_forgotten(span: float) -> None:
    pace = Pace()
    pace.measured(sample(0, 0, 1000))
    pace.measured(sample(20, 500, 500))

    now = pace.measured(sample(20 + span, 500, 500))

    assert now.rate == 0.0


@given(st.dictionaries(st.sampled_from(["skipped:a", "skipped:b:c", "delivered", "skippedx:a"]), st.integers(0, 9)))
def test_reasons_keep_every_count_but_none_that_is_zero(counts: dict[str, int]) -> None:
    found = by_reason(counts, "skipped")

    assert sum(found.values()) == counts.get("skipped:a", 0) + counts.get("skipped:b:c", 0)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert 0 not in found.values()


async def queue(rows: Rows, **of_program: Any) -> Program:
    program = await rows.program(**of_program)
    states: list[dict[str, Any]] = [
        {},
        {"worker": 1},
        {"attempt": 2},
        {"worker": 1, "begun": START},
        {"doubts": 1, "attempt": 1},
    ]
    for n, columns in enumerate(states):
        contact = await rows.contact(f"q{n}@y.test")
        await rows.queued(program, contact, await rows.enrol(program, contact), **columns)
    return program


async def test_counters_of_all_slots_and_the_queue_by_state(rows: Rows, conn: Connection) -> None:
    program = await queue(rows)
    await rows.entry(program, await rows.contact("e@y.test"), due=START)
    await rows.tally(program, enrolled=20, delivered=7, bounced=1, skipped__unsubscribed=2, deferred=9)
    await conn.execute("insert into tally values ($1, 1, 'delivered', 4), ($1, 1, 'in_doubt', 1)", program.id)

    found = await progress(conn, "nudge")

    assert (found.enrolled, found.delivered, found.bounced, found.in_doubt) == (20, 11, 1, 1)
    assert found.skipped == {"unsubscribed": 2}
    assert found.pending == Pending(waiting=2, deferred=1, begun=1, in_doubt=1)
    assert found.running == 1
    assert found.ended == 15
    assert not found.done


async def test_mail_that_waits_for_its_time_says_when_the_first_of_it_is_due(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    later = datetime.now(UTC) + timedelta(hours=3)
    for number in (1, 0):
        contact = await rows.contact(f"{number}@y.test")
        due = later + timedelta(hours=number)
        await rows.queued(program, contact, await rows.enrol(program, contact), due=due)

    found = await progress(conn, "nudge")
    console = Console(width=80)
    with console.capture() as said:
        console.print(status_view(found))

    assert found.next_due == later
    assert f"next mail {local(later)}" in " ".join(said.get().split())


async def test_done_is_all_enrolled_nothing_queued_and_nobody_on_the_way(rows: Rows, conn: Connection) -> None:
    program = await rows.program("over")
    await rows.program("halfway", enqueued=None)
    waits = await rows.program("waits")
    await rows.entry(waits, await rows.contact("a@y.test"), due=START)
    await rows.entry(program, await rows.contact("b@y.test"), ended=START, why="done")

    assert [(await progress(conn, name)).done for name in ("over", "halfway", "waits")] == [True, False, False]


class Sender(SystemClock):
    """A clock in whose sleep a program delivers."""

    def __init__(self, rows: Rows, program: Program) -> None:
        self.slept = 0.0
        self._rows = rows
        self._program = program

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        await self._rows.tally(self._program, delivered=10)


async def test_a_single_look_at_a_running_program_tells_its_pace(rows: Rows, conn: Connection) -> None:
    clock = Sender(rows, await queue(rows))

    found = await measured_progress(conn, "nudge", clock)

    assert clock.slept == 1.0
    assert found.delivered == 10
    assert found.rate is not None
    assert found.rate > 0
    assert found.seconds_left is not None


async def test_a_single_look_at_a_program_that_stands_does_not_wait(rows: Rows, conn: Connection) -> None:
    clock = Sender(rows, await queue(rows, status="paused"))

    found = await measured_progress(conn, "nudge", clock)

    assert clock.slept == 0.0
    assert (found.status, found.rate) == ("paused", None)
