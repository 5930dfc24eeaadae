"""How ways through programs begin and end: entering, silence, pause and cancel."""

from itertools import product
from typing import Any

import pytest

from engine.policy import Policy
from engine.service import Catalogue, end_silent, enter, set_program_status
from engine.states import Event, Kind, Row, State, apply
from mtad.base.db import in_transaction
from tests.engine.world import DAY, START, World, definition

LATER = START + 10 * DAY


@pytest.mark.parametrize(("series", "runs"), list(product((True, False), (True, False))))
async def test_entering_does_what_the_table_says(world: World, series: bool, runs: bool) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    rows = {}
    for state in State:
        contact = await world.contact(f"{state}@example.com", stream)
        fresh = state is State.NEW
        rows[contact] = Row(state, START, 0 if fresh else 7, START, first_sent=None if fresh else START)
        row = rows[contact]
        await world.engagement(
            stream, contact, state="active" if fresh else state.value, score=row.score, first_sent=row.first_sent
        )
        if runs:
            await world.entry(program, contact)
    event = Event(Kind.ENTERS_SERIES if series else Kind.ENTERS_CAMPAIGN, LATER, "enrolment", series_runs=runs)

    await in_transaction(world.pool, lambda conn: enter(conn, stream, list(rows), LATER, series=series))

    for contact, row in rows.items():
        after, moved = apply(row, event, Policy())
        found = await world.one(
            "select state::text, since, score, round_from, first_sent from engagement where contact_id = $1", contact
        )
        stored = "active" if after.state is State.NEW else after.state.value
        assert found == (stored, after.since, after.score, after.round_from, after.first_sent)
        logged = [(row.state.value, "active", "entered", "enrolment")] if moved else []
        assert await world.transitions(contact) == logged
        assert await world.gate(contact) == 1


@pytest.mark.parametrize("series", [True, False])
async def test_who_enters_first_gets_a_row(world: World, series: bool) -> None:
    stream = await world.stream()
    contacts = [await world.contact(f"{n}@example.com", stream) for n in range(3)]

    await in_transaction(world.pool, lambda conn: enter(conn, stream, [*contacts, contacts[0]], START, series=series))

    rows = await world.conn.fetch("select state::text, score, round_from, first_sent from engagement")
    assert [tuple(row) for row in rows] == [("active", 0, START, None)] * 3
    assert await world.conn.fetchval("select count(*) from transition") == 0


async def _end(world: World, *entries: int) -> set[int]:
    return await in_transaction(world.pool, lambda conn: end_silent(conn, entries))


async def test_silent_series_makes_inactive_and_ends_the_other_ways_of_the_stream(world: World) -> None:
    stream, elsewhere = await world.stream(), await world.stream("elsewhere")
    program, other = await world.program(stream, definition()), await world.program(stream, definition("other"))
    contact = await world.contact("a@example.com", stream, elsewhere)
    await world.engagement(stream, contact, score=5)
    over = await world.entry(program, contact)
    await world.mailed(program, contact, entry=over)
    runs = await world.entry(other, contact)
    waiting = await world.queued(other, contact, entry=runs)
    stays = await world.entry(await world.program(elsewhere, definition("elsewhere")), contact)

    assert await _end(world, over) == {over}

    row = await world.one("select state::text, score, cycle, cool_until - since = interval '30 d' from engagement")
    assert row == ("cooling", 0, 1, True)
    assert await world.why(over) is None  # the caller ends it
    assert (await world.why(runs), await world.why(stays)) == ("inactive", None)
    assert await world.due(waiting)
    assert await world.gate(contact) == 2
    assert await world.transitions(contact) == [("active", "cooling", "silent", f"end of nudge, entry {over}")]


@pytest.mark.parametrize(
    ("columns", "silent"),
    [
        ({"last_sign": START}, False),
        ({"last_sign": START - DAY}, True),
        ({"last_sign": None}, True),
    ],
)
async def test_silence_is_no_sign_since_the_entry_began(world: World, columns: dict[str, Any], silent: bool) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact, **columns)
    entry = await world.entry(program, contact)
    await world.mailed(program, contact, entry=entry)

    assert await _end(world, entry) == ({entry} if silent else set())

    assert await world.state(stream, contact) == ("cooling" if silent else "active", 0)


@pytest.mark.parametrize("state", ["engaged", "reactivated", "cooling", "resting"])
async def test_silence_moves_only_who_is_active(world: World, state: str) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact, state=state)
    entry = await world.entry(program, contact)
    await world.mailed(program, contact, entry=entry)

    assert await _end(world, entry) == {entry}

    assert await world.state(stream, contact) == (state, 0)
    assert await world.gate(contact) == 1


async def test_silence_without_a_delivery_means_nothing(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    entry = await world.entry(program, contact)
    await world.mailed(program, contact, entry=entry, outcome="skipped")

    assert await _end(world, entry) == set()

    assert await world.state(stream, contact) == ("active", 0)


async def test_silence_of_who_is_not_measured_means_nothing(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream, tracking="none")
    await world.engagement(stream, contact)
    entry = await world.entry(program, contact)
    await world.mailed(program, contact, entry=entry)

    assert await _end(world, entry) == set()

    assert await world.state(stream, contact) == ("active", 0)


@pytest.mark.parametrize("class_", [None, "human"])
async def test_silence_is_not_concluded_over_a_hit_that_waits(world: World, class_: str | None) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    entry = await world.entry(program, contact)
    await world.hit(await world.mailed(program, contact, entry=entry), "open", class_=class_)

    assert await _end(world, entry) == set()

    assert await world.state(stream, contact) == ("active", 0)


async def test_silence_has_no_effect_where_the_program_says_so(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition(when_silent="nothing"))
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    entry = await world.entry(program, contact)
    await world.mailed(program, contact, entry=entry)

    assert await _end(world, entry) == {entry}

    assert await world.state(stream, contact) == ("active", 0)


async def test_two_silent_ways_of_one_contact_are_one_transition(world: World) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact)
    entries = []
    for name in ("nudge", "other"):
        program = await world.program(stream, definition(name))
        entries.append(await world.entry(program, contact))
        await world.mailed(program, contact, entry=entries[-1])

    assert await _end(world, *entries) == set(entries)

    assert len(await world.transitions(contact)) == 1
    assert [await world.why(entry) for entry in entries] == [None, None]


@pytest.mark.parametrize("status", ["paused", "running", "cancelled"])
async def test_every_change_of_a_program_raises_its_fence(world: World, status: Any) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    entry = await world.entry(program, await world.contact("a@example.com", stream))

    await in_transaction(world.pool, lambda conn: set_program_status(conn, program, status, "because"))

    row = await world.one("select status::text, why, fence from program where id = $1", program)
    assert row == (status, "because", 2)
    assert await world.why(entry) == ("cancelled" if status == "cancelled" else None)


async def test_unknown_program_is_said_to_be_unknown(world: World) -> None:
    with pytest.raises(KeyError):
        await set_program_status(world.conn, 999, "paused", None)


async def test_catalogue_holds_what_was_needed_by_version(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    catalogue = Catalogue(world.pool)

    await catalogue.need([(program, 1)], [(stream, 1)], 1)

    held = catalogue.program(program, 1)
    assert held.definition == definition()
    assert (held.name, held.kind, held.stream_id, list(held.messages)) == ("nudge", "series", stream, ["one", "two"])
    assert catalogue.stream(stream, 1).definition.tracking == "full"
    with pytest.raises(KeyError):
        await catalogue.need([(program, 2)], [], 1)
