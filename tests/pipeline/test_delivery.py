"""What is queued is delivered once, when the database goes away and when servers hang up."""

import asyncio
from math import inf
from typing import Any

import pytest

from mtad.base.config import Shape
from mtad.queue import store
from tests.pipeline.office import Office, is_so, open_office


async def test_what_is_queued_is_delivered_once(office: Office) -> None:
    people = [f"p{n}@reader.test" for n in range(100)]
    for person in people:
        await office.world.job(person)

    async with open_office(office):
        await office.until_delivered(100)

    assert sorted(office.post.sent) == sorted(people)


async def test_a_claim_whose_answer_was_lost_is_worked_on_all_the_same(office: Office) -> None:
    await office.world.job()
    office.pool.unheard = store.SQL["claim"]

    async with open_office(office):
        await office.until_delivered(1)

    assert office.post.sent == ["ann@reader.test"]


async def test_what_a_lost_claim_took_after_the_rest_was_given_back_is_given_back_too(office: Office) -> None:
    world = office.world
    office.pool.refused = store.SQL["claim"]

    async with open_office(office):
        await office.until(lambda: is_so(office.pool.refusals > 0))
        office.pool.refused = ""
        # Of a claim that was heard, after the last that was not: none of those puts the time off again.
        await office.until(lambda: is_so(office.pipeline._late_until < inf and not office.pipeline._unheard))
        async with world.rows.conn.transaction():
            await world.job()
            taken = await world.claim(office.worker)
        office.pipeline._late_until = 0.0  # its statement would have been ended by now
        await office.until_delivered(1)

    assert len(taken) == 1
    assert office.pipeline._late_until == inf


async def test_nothing_is_claimed_while_endings_cannot_be_written_down(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.world.job("ann@reader.test")
    office.pool.refused = store.SQL["settle_ended"]
    claim, claimed_behind = store.claim, []

    async def watched(*arguments: Any, **named: Any) -> Any:
        claimed_behind.append(office.pipeline._settler.behind)
        return await claim(*arguments, **named)

    monkeypatch.setattr(store, "claim", watched)

    async with open_office(office):
        await office.until(lambda: is_so(office.pool.refusals >= 6))
        await office.world.job("bob@reader.test")
        office.pool.refused = ""
        await office.until_delivered(2)

    assert claimed_behind
    assert not any(claimed_behind)


async def test_an_aborted_pipeline_ends_with_the_database_away_and_what_it_held_is_freed(office: Office) -> None:
    await office.world.job()
    office.pool.refused = store.SQL["settle_ended"]
    running = asyncio.create_task(office.pipeline.run())

    async def sent() -> bool:
        return bool(office.post.sent)

    await office.until(sent)
    office.pool.away = True
    office.pipeline.drain()
    office.pipeline.abort()
    await running

    freed = await store.bury(office.world.rows.conn, [office.worker], [60] * 3)
    assert freed == (0, 1)


async def test_a_server_that_hangs_up_after_its_greeting_is_left_alone_for_a_while(office: Office) -> None:
    await office.world.job()
    office.post.hangs_up = True

    async with open_office(office):
        await office.until_count("select count(*) from lane where closed_until > now()", 1)

    row = await office.world.pool.fetchrow("select attempt, worker, due > now() from job")
    assert row is not None
    assert tuple(row.values()) == (1, None, True)
    assert office.post.opened == 1


async def test_no_session_begins_its_next_mail_before_the_ledger_has_its_last(office: Office) -> None:
    people = [f"p{n}@reader.test" for n in range(60)]
    for person in people:
        await office.world.job(person)
    office.pool.refused = store.SQL["settle_ended"]

    async with open_office(office):

        async def refused_for_a_while() -> bool:
            return office.pool.refusals > 20

        await office.until(refused_for_a_while)
        begun = len(office.post.sent)
        office.pool.refused = ""
        await office.until_delivered(60)

    assert begun <= Shape().connection_limit
    assert sorted(office.post.sent) == sorted(people)
