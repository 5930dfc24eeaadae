"""An operator sets a state: with all that follows from it, and nothing from before undoes it."""

from typing import Any

import pytest

from engine.service import fold, retell, set_state
from engine.states import State
from mtad.base.db import Connection, in_transaction
from mtad.base.errors import InputError
from tests.engine.world import DAY, START, World, definition


async def set_to(world: World, stream: int, contact: int, state: str, reason: str = "phoned us") -> State:
    async def work(conn: Connection) -> State:
        return await set_state(conn, contact, stream, state, by="eve", reason=reason)

    return await in_transaction(world.pool, work)


async def test_pausing_by_hand_ends_the_ways_and_no_older_fact_takes_it_back(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    mail = await world.mailed(program, contact)
    await world.engagement(stream, contact, score=5, told=START)
    entry = await world.entry(program, contact)
    job = await world.queued(program, contact, entry=entry)

    assert await set_to(world, stream, contact, "cooling") == "active"

    row = await world.one("select state::text, score, cycle, cool_until - since = interval '30 d' from engagement")
    assert row == ("cooling", 0, 1, True)
    assert await world.transitions(contact) == [("active", "cooling", "operator", "set by eve: phoned us")]
    assert (await world.gate(contact), await world.why(entry), await world.due(job)) == (2, "inactive", True)

    await world.hit(mail, "click", at=START + DAY)
    await fold(world.pool)
    await in_transaction(world.pool, lambda conn: retell(conn, [(stream, contact)]))
    assert await world.state(stream, contact) == ("cooling", 0)


@pytest.mark.parametrize("state", ["active", "engaged", "reactivated", "cooling", "resting"])
@pytest.mark.parametrize("before", [None, "trying"])
async def test_every_state_can_be_set_twice_whatever_was_before(world: World, before: str | None, state: str) -> None:
    stream = await world.stream()
    reactivation = await world.program(stream, definition("winback", kind="reactivation", leave_on=()))
    contact = await world.contact("a@example.com", stream)
    if before:
        await world.engagement(stream, contact, state=before, cycle=1)
    entry = await world.entry(reactivation, contact)

    await set_to(world, stream, contact, state)
    await set_to(world, stream, contact, state)

    assert await world.state(stream, contact) == (state, 0)
    inactive = state in ("cooling", "resting")
    assert await world.why(entry) == ("inactive" if inactive else "came_back" if before else None)
    assert await world.conn.fetchval("select count(*) from engagement_base") == 1


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"state": "trying"}, "state 'trying': write one of active, engaged, reactivated, cooling, resting"),
        ({"state": "active", "reason": " "}, "--reason: is missing"),
    ],
)
async def test_what_cannot_be_set_is_refused(world: World, asked: dict[str, Any], says: str) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com", stream)

    with pytest.raises(InputError, match=says):
        await set_to(world, stream, contact, **asked)

    assert await world.state(stream, contact) is None
