"""A change of the rules: whom it would concern, and that the sweep comes round when the new rules say."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from engine import revision
from engine.policy import Points, Policy
from engine.revision import Effect, OnStream, concern, earlier, effect, hasten, retime
from engine.service import retell
from engine.slots import Cap, Slots
from engine.states import Row, State
from engine.timers import cool_until
from mtad.base.db import in_transaction
from tests.engine.world import DAY, START, World, definition

NOW = START + 40 * DAY
OLD = Policy()


def somebody(state: State = State.ACTIVE, **columns: Any) -> OnStream:
    wake = columns.pop("wake_at", None)
    row = Row(state, START, columns.pop("score", 0), START, first_sent=START, **columns)
    return OnStream(1, row, NOW - DAY, wake)


@pytest.mark.parametrize(
    ("one", "new", "counted"),
    [
        # 40 days without a sign, two attempts ignored: 90 are allowed, then 30.
        (somebody(ignored=2), Policy(days=30, attempts=5), {"inactive": 1}),
        (somebody(ignored=1), Policy(days=30), {}),
        (somebody(ignored=2), Policy(days=41), {}),
        (somebody(ignored=2), Policy(attempts=3), {"at_risk": 1}),
        (somebody(ignored=2, veiled=True), Policy(attempts=3), {}),
        (somebody(ignored=4), Policy(attempts=8), {"spared": 1}),
        (somebody(ignored=4), Policy(attempts=4), {}),
        (somebody(State.COOLING, cycle=1, cool_until=START + 41 * DAY), Policy(cool_downs=(35 * 86400.0,)),
         {"returning": 1}),
        (somebody(State.COOLING, cycle=1, cool_until=START + 39 * DAY), Policy(cool_downs=(1.0,)), {}),
        (somebody(State.COOLING, cycle=1, cool_until=START + 41 * DAY), Policy(cool_downs=(90 * 86400.0,)), {}),
        (somebody(score=15), Policy(threshold=15), {"engaged": 1}),
        (somebody(State.ENGAGED, score=15), Policy(threshold=15), {}),
    ],
)  # fmt: skip
def test_each_kind_of_concern_is_counted(one: OnStream, new: Policy, counted: dict[str, int]) -> None:
    found = Effect()
    concern(found, one, OLD, new, NOW)

    reachable = one.row.state is not State.COOLING
    assert found == Effect(**{"reachable": int(reachable), **counted})
    assert found.concerns_anybody == bool(counted)


def test_a_cool_down_that_runs_is_never_made_longer() -> None:
    row = somebody(State.COOLING, cycle=2, cool_until=START + 90 * DAY).row

    assert cool_until(row, Policy(cool_downs=(DAY.total_seconds(), 80 * 86400.0))) == START + 80 * DAY
    assert cool_until(row, Policy(cool_downs=(30 * 86400.0, 120 * 86400.0))) == START + 90 * DAY


@pytest.mark.parametrize(
    ("wake_at", "days", "comes"),
    [(START + 90 * DAY, 60, START + 60 * DAY), (START + 90 * DAY, 120, None), (None, 60, START + 60 * DAY)],
)
def test_the_sweep_comes_round_earlier_where_the_new_rules_say_so(
    wake_at: datetime | None, days: int, comes: datetime | None
) -> None:
    assert earlier(somebody(ignored=2, wake_at=wake_at), Policy(days=days)) == comes


async def test_people_are_counted_and_retimed(world: World) -> None:
    stream = await world.stream()
    silent = [await world.contact(f"s{n}@y.test", stream) for n in range(3)]
    for contact in silent:
        await world.engagement(stream, contact, ignored=2, wake_at=START + 90 * DAY)
    cooling = await world.contact("cooling@y.test", stream)
    await world.engagement(stream, cooling, state="cooling", cycle=1, cool_until=START + 50 * DAY)
    gone = await world.contact("gone@y.test")
    await world.engagement(stream, gone, ignored=2)
    new = Policy(days=30, cool_downs=(35 * 86400.0,))

    found = await effect(world.conn, stream, OLD, new, NOW)
    changed = await retime(world.pool, stream, new)

    assert (found.inactive, found.returning, found.reachable, found.brake) == (3, 1, 3, 100)
    assert changed == 5
    found_rows = await world.conn.fetch("select contact_id, coalesce(cool_until, wake_at) from engagement")
    rows = {contact: at for contact, at in found_rows}  # noqa: C416 - rows
    assert rows == dict.fromkeys([*silent, gone], START + 30 * DAY) | {cooling: START + 35 * DAY}
    assert await retime(world.pool, stream, new) == 0


async def test_mail_that_waits_for_rules_that_were_relaxed_goes_when_the_new_ones_say(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "MAILS", 2)
    monkeypatch.setitem(revision.SQL, "lock_waiting_mail", revision.SQL["lock_waiting_mail"].replace("5000", "2"))
    stream = await world.stream()
    program = await world.program(stream, definition())
    now: datetime = await world.conn.fetchval("select now()")
    sent, due = now - 2 * DAY, now + 5 * DAY
    # The third was tried before: the slot is its own.
    for slot, reason in enumerate(("cap:1/7d", "quiet_hours", "cap:1/7d", "451 later", "sending_day")):
        contact = await world.contact(f"c{slot}@y.test", stream)
        job = await world.queued(program, contact)
        await world.conn.execute(
            "update job set reason = $2, due = $3, slot = case when $2 like 'cap%' and $4 = 2 then $5::timestamptz end"
            " where id = $1", job, reason, due, slot, sent,
        )  # fmt: skip
        await world.conn.execute(
            "update gate set sent = $2, sent_on = $3 where contact_id = $1", contact, [sent], [stream]
        )
    strict, strictest, mild = (
        Policy(slots=Slots(caps=(Cap(1, days * 86400.0, "cap"),))) for days in (7, 8, 3)
    )  # fmt: skip

    assert await hasten(world.pool, stream, strict, msgspec.structs.replace(strict, attempts=9)) == 0
    assert await hasten(world.pool, stream, strict, strictest) == 1
    assert await hasten(world.pool, stream, strictest, mild) == 3

    dues = [row[0] - now for row in await world.conn.fetch("select due from job order by id")]
    assert dues[0] == dues[1] == dues[4] == DAY
    assert dues[3] == 5 * DAY
    assert dues[2] < timedelta(minutes=1)


async def test_a_replay_goes_by_the_rules_of_each_fact(world: World) -> None:
    old, new = Policy(attempts=2), Policy(attempts=9, points=Points(open=1))
    stream = await world.stream(policy=old)
    program = await world.program(stream, definition())
    paused, reader = [await world.contact(f"{name}@y.test", stream) for name in ("paused", "reader")]
    await world.engagement(stream, paused, first_sent=None)
    await world.engagement(stream, reader, first_sent=None)
    for day in (0, 10):
        await world.mailed(program, paused, at=START + day * DAY)
    for day in (0, 60):
        await world.hit(await world.mailed(program, reader, at=START + day * DAY), "open", at=START + (day + 1) * DAY)
    await world.conn.execute("delete from pending")
    await world.conn.execute(
        "insert into stream_version (stream_id, version, definition, made_by, made)"
        " select stream_id, 2, jsonb_set(definition, '{policy}', $2), 'test', $3"
        " from stream_version where stream_id = $1",
        stream, msgspec.to_builtins(new), START + 50 * DAY,
    )  # fmt: skip
    await world.conn.execute("update stream set version = 2")
    await world.hears(START + 70 * DAY)

    await in_transaction(world.pool, lambda conn: retell(conn, [(stream, paused), (stream, reader)]))

    assert await world.state(stream, paused) == ("cooling", 0)
    assert await world.state(stream, reader) == ("active", 5 + 1)
