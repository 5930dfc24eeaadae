"""Hits of people become score, state and ends of entries, in a real database."""

from datetime import timedelta

import pytest

from engine.fold import BATCH
from engine.policy import Points, Policy
from engine.service import fold
from tests.engine.world import DAY, START, World, definition


async def test_points_count_once_per_mail_and_kind(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    job = await world.mailed(program, contact)
    for kind in ("open", "open", "click"):
        await world.hit(job, kind)
    await world.hit(job, "click", link=2)

    assert await fold(world.pool) == 4

    assert await world.state(stream, contact) == ("active", 15)
    assert await world.pending() == 0


async def test_points_that_have_lapsed_do_not_count_at_the_next_sign(world: World) -> None:
    stream = await world.stream(policy=Policy(points_last=10 * 86400.0))
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    scores = []
    for day, kind in ((1, "open"), (8, "click"), (10.9, "open"), (12, "click"), (18.5, "click")):
        await world.hit(await world.mailed(program, contact, at=START + (day - 1) * DAY), kind, at=START + day * DAY)
        await fold(world.pool)
        scores.append(await world.state(stream, contact))

    assert scores == [("active", 5), ("active", 15), ("engaged", 20), ("engaged", 25), ("engaged", 25)]


async def test_the_same_hit_folded_again_changes_nothing(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    job = await world.mailed(program, contact)
    await world.hit(job, "click", number=1)
    await fold(world.pool)
    row = "select state, score, round_from, first_sent, last_sign, version from engagement"
    before = await world.one(row)
    await world.hit(job, "click", number=1)

    assert await fold(world.pool) == 1

    assert await world.one(row) == before
    assert await world.conn.fetchval("select count(*) from answer") == 1


async def test_threshold_makes_engaged_ends_the_series_and_wakes_its_jobs(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    other = await world.program(stream, definition("loyal", leave_on=()))
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    entry = await world.entry(program, contact, node="two")
    stays = await world.entry(other, contact)
    first = await world.mailed(program, contact, entry=entry)
    second = await world.mailed(program, contact, node="two", entry=entry)
    waiting = await world.queued(program, contact, node="two", entry=entry)
    await world.hit(first, "open")
    await world.hit(first, "click", at=START + DAY + timedelta(seconds=1))
    await world.hit(second, "open", at=START + 4 * DAY)

    await fold(world.pool)

    assert await world.state(stream, contact) == ("engaged", 20)
    assert await world.why(entry) == "engaged"
    assert await world.why(stays) is None
    assert await world.due(waiting)
    assert await world.gate(contact) == 2
    assert await world.transitions(contact) == [
        ("active", "engaged", "threshold", f"open of two, job {second}"),
    ]


async def test_points_alone_raise_no_gate(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    entry = await world.entry(program, contact)
    waiting = await world.queued(program, contact, node="two", entry=entry)
    await world.hit(await world.mailed(program, contact, entry=entry), "click")

    await fold(world.pool)

    assert await world.state(stream, contact) == ("active", 10)
    assert await world.gate(contact) == 1
    assert await world.why(entry) is None
    assert not await world.due(waiting)


@pytest.mark.parametrize(("kind", "why"), [("click", "clicked"), ("open", "opened")])
async def test_first_answer_to_its_own_mail_ends_an_entry_that_says_so(world: World, kind: str, why: str) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition(leave_on=(kind,)))
    other = await world.program(stream, definition("other", leave_on=(kind,)))
    contact = await world.contact("a@example.com", stream)
    entry = await world.entry(program, contact)
    stays = await world.entry(other, contact)
    await world.hit(await world.mailed(program, contact, entry=entry), kind)

    await fold(world.pool)

    assert await world.why(entry) == why
    assert await world.why(stays) is None
    assert await world.gate(contact) == 2


@pytest.mark.parametrize("class_", ["machine", "scanner", "veiled", None])
async def test_only_hits_of_people_are_folded(world: World, class_: str | None) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition(leave_on=("click",)))
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    entry = await world.entry(program, contact)
    await world.hit(await world.mailed(program, contact, entry=entry), "click", class_=class_)

    assert await fold(world.pool) == 0

    assert await world.state(stream, contact) == ("active", 0)
    assert await world.why(entry) is None


async def test_hit_waits_until_its_mail_is_settled(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    job = await world.queued(program, contact)
    await world.hit(job, "open")

    assert await fold(world.pool) == 0
    assert await world.pending() == 1

    await world.conn.execute("delete from job")
    await world.conn.execute(
        "insert into ledger (job_id, program_id, stream_id, message_id, contact_id, outcome, reason, attempts, doubts,"
        " created, ended) select $1, $2, $3, m.id, $4, 'delivered', '', 1, 0, $5, $5 from message m"
        " where m.program_id = $2 and m.node = 'one'",
        job,
        program,
        stream,
        contact,
        START,
    )
    assert await fold(world.pool) == 1
    assert await world.state(stream, contact) == ("active", 5)


@pytest.mark.parametrize("outcome", ["bounced", "expired", "skipped"])
async def test_answer_to_a_mail_that_never_arrived_is_dropped(world: World, outcome: str) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.hit(await world.mailed(program, contact, outcome=outcome), "click")
    await world.hit(999, "click")

    assert await fold(world.pool) == 2

    assert await world.state(stream, contact) is None
    assert await world.pending() == 0


async def test_answer_of_somebody_who_was_erased_is_dropped(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.hit(await world.mailed(program, contact), "click")
    await world.conn.execute("update ledger set contact_id = null")

    assert await fold(world.pool) == 1

    assert await world.state(stream, contact) is None
    assert await world.pending() == 0


async def test_a_mail_in_doubt_that_is_answered_did_arrive(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    # Given up long after the click.
    await world.hit(await world.mailed(program, contact, outcome="in_doubt", at=START + 5 * DAY), "click")

    await fold(world.pool)

    assert await world.state(stream, contact) == ("active", 10)


@pytest.mark.parametrize("mode", ["hygiene", "aggregate", "none"])
async def test_who_may_not_be_measured_earns_nothing(world: World, mode: str) -> None:
    stream = await world.stream()
    loose = await world.stream("loose", tracking=mode)
    contact = await world.contact("a@example.com", stream, tracking=mode)
    other = await world.contact("b@example.com", loose)
    await world.hit(await world.mailed(await world.program(stream, definition()), contact), "click")
    await world.hit(await world.mailed(await world.program(loose, definition("b")), other), "click")

    assert await fold(world.pool) == 2

    assert await world.state(stream, contact) is None
    assert await world.state(loose, other) is None


async def test_who_is_measured_against_the_streams_mode_counts(world: World) -> None:
    stream = await world.stream(tracking="none")
    contact = await world.contact("a@example.com", stream, tracking="full")
    await world.hit(await world.mailed(await world.program(stream, definition()), contact), "click")

    await fold(world.pool)

    assert await world.state(stream, contact) == ("active", 10)


@pytest.mark.parametrize("state", ["cooling", "trying", "resting"])
async def test_who_is_inactive_comes_back_by_a_click(world: World, state: str) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    job = await world.mailed(program, contact)
    await world.engagement(
        stream, contact, state=state, since=START + DAY, score=3, cycle=1, cool_until=START + 30 * DAY
    )
    await world.hit(job, "click", at=START + 2 * DAY)

    await fold(world.pool)

    row = await world.one("select state::text, score, cycle, cool_until, round_from from engagement")
    assert row == ("reactivated", 10, 0, None, START + 2 * DAY)
    assert await world.transitions(contact) == [
        (state, "reactivated", "came_back", f"click on link 1 of one, job {job}"),
    ]
    assert await world.gate(contact) == 2


async def test_answers_keep_the_points_that_counted(world: World) -> None:
    stream = await world.stream(policy=Policy(points=Points(open=3, click=7), threshold=100))
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact, round_from=START + 2 * DAY)
    job = await world.mailed(program, contact)
    await world.hit(job, "open", at=START + DAY)
    await world.hit(job, "click", at=START + 3 * DAY)

    await fold(world.pool)

    rows = await world.conn.fetch("select kind::text, points from answer order by at")
    assert [tuple(row) for row in rows] == [("open", 0), ("click", 7)]


async def test_more_than_one_batch_is_folded(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    job = await world.mailed(program, contact)
    await world.hits([(job, "open")] * (BATCH + 1))

    assert await fold(world.pool) == BATCH + 1

    assert await world.state(stream, contact) == ("active", 5)
