"""mtad audit: both sums, and every way in which they can be broken."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mtad.base.db import Connection, Pool
from mtad.base.errors import InputError
from mtad.ops.answers.counts import Pending
from mtad.ops.audit import Audit, Fault, audit
from tests.rows import START, Program, Rows


async def everything(rows: Rows) -> Program:
    """A series with one contact for each thing that can become of a mail and of an entry."""
    program = await rows.program()
    contacts = [await rows.contact(f"c{n}@y.test") for n in range(12)]
    fates = ["delivered", "delivered", "bounced", "expired", "in_doubt"]
    for contact, outcome in zip(contacts, fates, strict=False):
        await rows.mail(program, contact, outcome)
    await rows.mail(program, contacts[5], "skipped", "unsubscribed")
    await rows.mail(program, contacts[6], "skipped", "suppressed:hard_bounce")
    states: list[dict[str, Any]] = [
        {},
        {"worker": 1},
        {"attempt": 1},
        {"worker": 1, "begun": START},
        {"doubts": 1, "attempt": 1},
    ]
    for contact, columns in zip(contacts[7:], states, strict=True):
        entry = await rows.entry(program, contact)
        await rows.queued(program, contact, await rows.enrol(program, contact), entry_id=entry, **columns)
    await rows.entry(program, contacts[0], due=START, node="nudge-2")
    await rows.entry(program, contacts[1], ended=START, why="engaged")
    return program


async def test_every_recipient_is_counted_once_by_what_became_of_them(rows: Rows, conn: Connection) -> None:
    await everything(rows)

    found = await audit(conn, "nudge")

    assert found.adds_up
    assert found.holes == []
    assert found.enrolled == found.accounted == 12
    assert (found.delivered, found.bounced, found.expired, found.in_doubt) == (2, 1, 1, 1)
    assert found.skipped == {"suppressed:hard_bounce": 1, "unsubscribed": 1}
    assert found.pending == Pending(waiting=2, deferred=1, begun=1, in_doubt=1)
    assert (found.entered, found.running, found.ended) == (7, 6, {"engaged": 1})


async def test_a_program_that_nobody_was_enrolled_in_adds_up(rows: Rows, conn: Connection) -> None:
    await rows.program()

    found = await audit(conn, "nudge")

    assert found.adds_up
    assert found.enrolled == found.entered == 0


async def test_other_programs_do_not_count(rows: Rows, conn: Connection) -> None:
    await everything(rows)
    other = await rows.program("news", mails=1)
    await rows.mail(other, await rows.contact("o@y.test"), "delivered")

    assert (await audit(conn, "nudge")).enrolled == 12
    assert (await audit(conn, "news")).delivered == 1


async def test_later_mails_of_a_series_are_enrolled_too(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    contact = await rows.contact("a@y.test")
    for mail in (1, 2, 3):
        await rows.mail(program, contact, "delivered", mail=mail)

    assert (await audit(conn, "nudge")).delivered == 3


async def test_an_unknown_program_is_one_line_that_names_those_there_are(rows: Rows, conn: Connection) -> None:
    await rows.program()

    with pytest.raises(InputError, match="program 'nugde' is unknown; there are: nudge"):
        await audit(conn, "nugde")


Break = Callable[[Rows, Program, int], Awaitable[int]]


async def lose(rows: Rows, program: Program, contact: int) -> int:
    return await rows.enrol(program, contact)


async def settle_without_unqueueing(rows: Rows, program: Program, contact: int) -> int:
    job = await rows.mail(program, contact, "delivered")
    await rows.queued(program, contact, job)
    return job


async def enrol_two_under_one_id(rows: Rows, program: Program, contact: int) -> int:
    job = await rows.mail(program, contact, "delivered")
    return await rows.enrol(program, contact, mail=2, job=job)


async def settle_what_was_not_enrolled(rows: Rows, program: Program, contact: int) -> int:
    await rows.settled(program, contact, 7_000_000, "delivered")
    return 7_000_000


async def queue_what_was_not_enrolled(rows: Rows, program: Program, contact: int) -> int:
    await rows.queued(program, contact, 7_000_000)
    return 7_000_000


async def strand_an_entry(rows: Rows, program: Program, contact: int) -> int:
    return await rows.entry(program, contact)


async def end_an_entry_without_a_reason(rows: Rows, program: Program, contact: int) -> int:
    return await rows.entry(program, contact, ended=START)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (lose, Fault.LOST),
        (settle_without_unqueueing, Fault.BOTH),
        (enrol_two_under_one_id, Fault.SHARED),
        (settle_what_was_not_enrolled, Fault.LEDGER_ONLY),
        (queue_what_was_not_enrolled, Fault.QUEUED_ONLY),
        (strand_an_entry, Fault.STRANDED),
        (end_an_entry_without_a_reason, Fault.UNEXPLAINED),
    ],
)
async def test_each_hole_is_found_and_named(rows: Rows, conn: Connection, broken: Break, fault: Fault) -> None:
    program = await everything(rows)
    contact = await rows.contact("hole@y.test")
    named = await broken(rows, program, contact)

    found = await audit(conn, "nudge")

    assert not found.adds_up
    assert [(hole.fault, hole.count, hole.ids) for hole in found.holes] == [(fault, 1, [named])]
    assert f" {named}" in str(found.holes[0])


async def test_of_many_with_one_fault_the_first_twenty_are_named(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    jobs = [await rows.enrol(program, await rows.contact(f"c{n}@y.test")) for n in range(25)]

    (hole,) = (await audit(conn, "nudge")).holes

    assert (hole.count, hole.ids) == (25, jobs[:20])
    assert str(hole).endswith(f"{jobs[19]}, …")


async def test_what_commits_between_its_two_statements_is_not_seen(
    rows: Rows, conn: Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = await everything(rows)
    late = await rows.contact("late@y.test")
    fetch = type(conn).fetch

    async def with_interruption(self: Any, query: str, *args: object) -> object:
        found = await fetch(self, query, *args)
        if self is conn and "from enrolled" in query:
            async with pool.acquire() as other:
                await Rows(other).mail(program, late, "delivered")
                await Rows(other).entry(program, late, ended=START, why="done")
        return found

    monkeypatch.setattr(type(conn), "fetch", with_interruption)

    during = await audit(conn, "nudge")
    monkeypatch.undo()
    after = await audit(conn, "nudge")

    assert (during.enrolled, during.entered) == (12, 7)
    assert (after.enrolled, after.entered) == (13, 8)


async def test_it_adds_up_at_every_moment_of_a_send(rows: Rows, pool: Pool) -> None:
    program = await rows.program(mails=1)
    contacts = [await rows.contact(f"c{n}@y.test") for n in range(60)]
    jobs = [await rows.enrol(program, contact) for contact in contacts]
    for contact, job in zip(contacts, jobs, strict=True):
        await rows.queued(program, contact, job)
    sent = asyncio.Event()

    async def send() -> None:
        async with pool.acquire() as other:
            for contact, job in zip(contacts, jobs, strict=True):
                async with other.transaction():
                    await other.execute("delete from job where id = $1", job)
                    await Rows(other).settled(program, contact, job, "delivered")
        sent.set()

    async def watch() -> list[Audit]:
        seen = []
        async with pool.acquire() as other:
            while not sent.is_set():
                seen.append(await audit(other, "nudge"))
        return seen

    _, seen = await asyncio.gather(send(), watch())

    assert seen
    assert all(found.adds_up and found.enrolled == 60 for found in seen)
