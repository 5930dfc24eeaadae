"""Folds beside others: what a fold locks, what it waits for, and who changes while it looks."""

import asyncio
import random
from datetime import timedelta
from functools import partial

import pytest

from engine.fold import BATCH
from engine.policy import Points, Policy
from engine.service import fold, fold_signs, retell
from engine.store import Taken
from mtad.base.db import in_transaction
from mtad.queue.store import Ended, settle_ended
from tests.engine.world import DAY, START, World, definition, mail_facts


async def test_nobody_who_holds_a_gate_waits_for_points_alone(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    await world.hit(await world.mailed(program, contact), "click")

    await fold(world.pool)

    assert await world.state(stream, contact) == ("active", 10)
    assert await world.one("select xmax::text from gate") == ("0",)  # nobody ever locked it


async def test_two_folds_at_once_count_each_answer_once(world: World) -> None:
    stream = await world.stream(policy=Policy(threshold=10_000))
    program = await world.program(stream, definition())
    contacts = [await world.contact(f"{n}@example.com", stream) for n in range(10)]
    jobs = [await world.mailed(program, contact) for contact in contacts for _ in range(10)]
    await world.hits([(jobs[n % len(jobs)], "open" if n % 3 else "click") for n in range(BATCH + 200)])

    await asyncio.gather(*(fold(world.pool) for _ in range(3)))

    assert await world.pending() == 0
    for contact in contacts:
        assert await world.state(stream, contact) == ("active", 150)


async def test_two_folds_at_once_leave_what_a_replay_of_the_hits_of_both_would(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contacts = [await world.contact(f"{n}@example.com", stream) for n in range(40)]
    for contact in contacts:
        await world.engagement(stream, contact)
    mails = [(contact, [await world.mailed(program, contact) for _ in "ab"]) for contact in contacts]
    everybody = [(stream, contact) for contact in contacts]
    await in_transaction(world.pool, partial(retell, keys=everybody))
    luck = random.Random(3)
    halves: tuple[list[Taken], list[Taken]] = ([], [])
    for contact, jobs in mails:
        for job, half in zip(jobs, halves, strict=True):
            kind, at = luck.choice(("open", "click", "click")), START + DAY + timedelta(seconds=luck.choice((0, 0, 1)))
            link = int(kind == "click")
            half.append(Taken(await world.hit(job, kind, at=at), job, kind, link, at, stream, contact, None))

    await asyncio.gather(*(in_transaction(world.pool, partial(fold_signs, signs=half)) for half in halves))

    of_the_folds = await everything(world)
    await in_transaction(world.pool, partial(retell, keys=everybody))
    assert await everything(world) == of_the_folds
    assert {row[2] for row in of_the_folds[0]} == {"active", "engaged"}


async def everything(world: World) -> list[list[tuple[object, ...]]]:
    """Rows, answers and log of all."""
    columns = "score, state::text, told, last_sign, window_until, ignored, unclear, wake_at, held"
    asked = (
        f"select contact_id, {columns} from engagement order by 1",
        "select job_id, kind::text, points, event_id from answer order by 1, 2",
        "select contact_id, to_state::text, at, takes_back from transition order by 1, 3, 2",
    )
    return [[tuple(row) for row in await world.conn.fetch(query)] for query in asked]


async def test_fold_waits_for_the_gate_before_it_holds_anything_else_of_a_contact(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition(leave_on=("click",)))
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    entry = await world.entry(program, contact)
    await world.hit(await world.mailed(program, contact, entry=entry), "click")

    async with world.pool.acquire() as other, other.transaction():
        await other.fetch("select from gate where contact_id = $1 for no key update", contact)
        folding = asyncio.create_task(fold(world.pool))
        await waiting(world)
        await other.fetch("select from engagement for no key update nowait")
        await other.fetch("select from entry for no key update nowait")

    assert await folding == 1
    assert await world.why(entry) == "clicked"


async def test_who_changes_while_a_fold_looks_is_folded_as_he_is_then(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    await world.hit(await world.mailed(program, contact), "open")
    async with world.pool.acquire() as other, other.transaction():
        await other.execute("update engagement set score = 15")
        folding = asyncio.create_task(fold(world.pool))
        await waiting(world)

    assert await folding == 1
    assert await world.state(stream, contact) == ("engaged", 20)
    assert await world.gate(contact) == 2


async def test_a_replay_writes_the_row_even_where_nothing_changes(world: World) -> None:
    """It may change answers, and by its place a fold knows that a row is the one that it looked at."""
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    await world.hit(await world.mailed(program, contact), "open")
    await fold(world.pool)
    written = []
    for _ in range(2):
        await in_transaction(world.pool, partial(retell, keys=[(stream, contact)]))
        written.append((await everything(world), await world.one("select ctid::text from engagement")))

    assert written[0][0] == written[1][0]
    assert written[0][1] != written[1][1]


async def test_a_fold_that_needs_one_more_gate_holds_no_row_while_it_waits(world: World) -> None:
    """Else it is a deadlock with whoever holds that gate."""
    stream = await world.stream()
    program = await world.program(stream, definition())
    first, second = [await world.contact(f"{n}@example.com", stream) for n in "ab"]
    for contact in (first, second):
        await world.engagement(stream, contact)
        await world.hit(await world.mailed(program, contact), "open")
    async with world.pool.acquire() as other, other.transaction():
        await other.fetch("select from gate where contact_id = $1 for no key update", second)
        async with world.pool.acquire() as changing, changing.transaction():
            await changing.execute("update engagement set score = 15 where contact_id = $1", second)
            folding = asyncio.create_task(fold(world.pool))
            await waiting(world)
        await other.fetch("select from engagement where contact_id = $1 for no key update", first)

    assert await folding == 2
    assert [await world.state(stream, contact) for contact in (first, second)] == [("active", 5), ("engaged", 20)]


@pytest.mark.parametrize(("score", "held"), [(0, 0), (0, 1), (15, 0)])
async def test_a_fold_holds_no_other_row_while_it_waits_for_one(world: World, score: int, held: int) -> None:
    """Whoever holds that one may want the others, which come behind it."""
    stream = await world.stream()
    program = await world.program(stream, definition())
    people = [await world.contact(f"{n}@example.com", stream) for n in "ab"]
    for contact, points in zip(people, (score, 0), strict=True):
        await world.engagement(stream, contact, score=points)
        await world.hit(await world.mailed(program, contact), "open")
    async with world.pool.acquire() as other, other.transaction():
        await other.fetch("select from engagement where contact_id = $1 for no key update", people[held])
        folding = asyncio.create_task(fold(world.pool))
        await waiting(world)
        await other.fetch("select from engagement where contact_id = $1 for no key update nowait", people[1 - held])

    assert await folding == 2
    assert [(await world.state(stream, contact) or ("", 0))[1] for contact in people] == [score + 5, 5]


async def test_a_fold_that_is_held_up_counts_nothing_that_was_counted_meanwhile(world: World) -> None:
    """What it looked at before it locked the row is too old then."""
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    entry = await world.entry(program, contact)
    job = await world.mailed(program, contact, entry=entry)
    early, late = [
        Taken(await world.hit(job, "open", at=at), job, "open", 0, at, stream, contact, of)
        for at, of in ((START + DAY, None), (START + 2 * DAY, entry))
    ]
    await world.conn.execute("alter table program_version rename to held_up")
    await world.conn.execute(
        "create view program_version as select * from held_up where pg_advisory_xact_lock_shared(5)::text = ''"
    )
    async with world.pool.acquire() as other, other.transaction():
        await other.execute("select pg_advisory_xact_lock(5)")
        folding = asyncio.create_task(in_transaction(world.pool, partial(fold_signs, signs=[late])))
        await waiting(world)
        await in_transaction(world.pool, partial(fold_signs, signs=[early]))
    await folding

    assert await world.state(stream, contact) == ("active", 5)
    assert await world.conn.fetchval("select event_id from answer") == early.event_id


async def test_mail_that_arrives_while_a_fold_waits_for_somebody_else_opens_its_window(world: World) -> None:
    """Settle writes of mail into an open window nothing but the ledger, so the row is the one that was seen."""
    stream = await world.stream()
    program = await world.program(stream, definition())
    plain, needs_gate = [await world.contact(f"{n}@example.com", stream) for n in "ab"]
    everybody = [(stream, plain), (stream, needs_gate)]
    for key, score in zip(everybody, (0, 15), strict=True):
        await world.engagement(*key, score=score)
        await world.hit(await world.mailed(program, key[1]), "open")
    await world.conn.execute("update engagement set told = first_sent, window_until = $1", START + 3 * DAY)
    job = await world.queued(program, plain, node="two")
    await world.conn.execute("update job set worker = 1 where id = $1", job)
    async with world.pool.acquire() as other, other.transaction():
        await other.fetch("select from gate where contact_id = $1 for no key update", needs_gate)
        folding = asyncio.create_task(fold(world.pool))
        await waiting(world)
        arrived = Ended(mail_facts(job, plain, stream), "delivered", attempts=1, ended=START + 2 * DAY)
        await settle_ended(world.conn, 1, 0, [arrived])

    assert await folding == 2
    of_the_fold = await everything(world)
    window = await world.conn.fetchval("select window_until from engagement where contact_id = $1", plain)
    assert window == START + 5 * DAY
    await in_transaction(world.pool, partial(retell, keys=everybody[:1]))
    assert (await everything(world))[0][0] == of_the_fold[0][0]


async def test_a_replay_that_changes_only_answers_is_seen_by_a_fold_that_waits_for_it(world: World) -> None:
    stream = await world.stream(policy=Policy(points=Points(open=0, click=10), threshold=100))
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    opened, clicked = await world.mailed(program, contact), await world.mailed(program, contact)
    none = await world.hit(opened, "open")
    await world.hit(clicked, "click", at=START + 2 * DAY)
    await fold(world.pool)
    await in_transaction(world.pool, partial(retell, keys=[(stream, contact)]))
    before = await everything(world)
    again = await world.hit(opened, "open", at=START + 3 * DAY, class_=None)
    await world.conn.execute("update pending set class = 'human'")
    async with world.pool.acquire() as other, other.transaction():
        await other.execute("update event set class = 'scanner' where id = $1", none)
        await retell(other, [(stream, contact)])
        folding = asyncio.create_task(fold(world.pool))
        await waiting(world)

    assert await folding == 1
    row, answers, _ = await everything(world)
    assert [answer[3] for answer in answers if answer[0] == opened] == [again]
    assert row[0][:3] == before[0][0][:3]


async def waiting(world: World) -> None:
    """Until somebody waits for a lock."""
    waits = (
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"
    )
    while not await world.conn.fetchval(waits):
        pass
