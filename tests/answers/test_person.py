"""mtad contact show: everything about one contact, in order of time."""

from datetime import timedelta

import msgspec
import pytest

from mtad.base.db import Connection
from mtad.base.errors import InputError
from mtad.ops.answers.person import Event, Mail, Transition, show
from mtad.ops.answers.times import local
from tests.rows import START, Rows


def minutes(n: int) -> timedelta:
    return timedelta(minutes=n)


async def test_mails_events_and_transitions_stand_in_order_of_time(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    first = await rows.mail(program, ann, "delivered", ended=START + minutes(1), reply="250 ok")
    await rows.mail(program, ann, "skipped", "left:engaged", mail=2, ended=START + minutes(4))
    clicked = await rows.hit("click", ann, first, program.links[0][2], at=START + minutes(3))
    await rows.hit("open", ann, first, program.pixels[0], at=START + minutes(2), class_="proxy")
    await rows.hit("login", ann, None, None, at=START + minutes(5), class_=None, stream=program.stream)
    await rows.transition(program, ann, "engaged", "threshold", "click", at=START + minutes(3))
    other = await rows.program("news", mails=1)
    await rows.queued(other, ann, await rows.enrol(other, ann), due=START, attempt=1, reason="451 later")

    history = (await show(conn, "ann@y.test")).history

    assert [(type(item), item.at) for item in history] == [
        (Mail, START + minutes(1)),
        (Event, START + minutes(2)),
        (Event, START + minutes(3)),
        (Transition, START + minutes(3)),
        (Mail, START + minutes(4)),
        (Event, START + minutes(5)),
        (Mail, None),
    ]
    event = history[2]
    assert isinstance(event, Event)
    assert (event.id, event.message, event.link, event.url) == (clicked, "nudge-1", 3, "https://shop.test/1/3")
    queued = history[-1]
    assert isinstance(queued, Mail)
    assert (queued.fate, queued.attempts, queued.reason, queued.due) == ("waiting", 1, "451 later", START)


async def test_a_stream_shows_permission_state_and_score(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test", attributes={"country": "DE"})
    await rows.engagement(program, ann, "engaged", score=25)

    person = await show(conn, "ann@y.test")

    (on,) = person.streams
    assert (on.stream, on.status, on.basis, on.source) == ("sales", "subscribed", "consent", "fair 2025")
    assert (on.state, on.score, on.since) == ("engaged", 25, START)
    assert person.contact.attributes == {"country": "DE"}
    assert [(identity.kind, identity.key) for identity in person.identities] == [("email", "ann@y.test")]


async def test_somebody_never_mailed_is_new(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    await rows.contact("ann@y.test")
    await rows.engagement(program, await rows.contact("bob@y.test"), "active")

    assert (await show(conn, "ann@y.test")).streams[0].state == "new"
    assert (await show(conn, "bob@y.test")).streams[0].state == "new"


async def test_suppressions_of_address_and_domain_are_shown_also_when_released(rows: Rows, conn: Connection) -> None:
    await rows.contact("ann@y.test")
    await conn.execute(
        "insert into suppression (key, scope, reason, source, released) values"
        " ('ann@y.test', 'all', 'manual', 'operator', now()), ('@y.test', 'all', 'manual', 'operator', null),"
        " ('bob@y.test', 'all', 'manual', 'operator', null)"
    )

    found = (await show(conn, "ann@y.test")).suppressions

    assert [(row.key, row.open, row.until) for row in found] == [("ann@y.test", False, None), ("@y.test", True, None)]


async def test_any_spelling_of_the_address_finds_the_contact(rows: Rows, conn: Connection) -> None:
    await rows.contact("Ann.Lee@Y.test")

    assert (await show(conn, " ann.lee@Y.TEST ")).contact.address == "Ann.Lee@Y.test"


@pytest.mark.parametrize(
    ("address", "says"),
    [("nobody@y.test", "no contact has the address nobody@y.test"), ("nobody", "address 'nobody': no @ in it")],
)
async def test_an_unknown_address_is_one_line(conn: Connection, address: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        await show(conn, address)

    assert str(error.value) == says
    assert error.value.exit_code == 65


async def test_json_tells_the_kinds_of_history_apart(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    job = await rows.mail(program, ann, "delivered")
    await rows.hit("open", ann, job, program.pixels[0], at=START + minutes(2))
    await rows.transition(program, ann, "engaged", "threshold", "open", at=START + minutes(2))

    written = msgspec.to_builtins(await show(conn, "ann@y.test"))

    assert [item["type"] for item in written["history"]] == ["mail", "event", "transition"]
    assert written["history"][1]["class"] == "human"
    assert set(written) == {"contact", "identities", "suppressions", "streams", "explained", "entries", "history"}


async def test_who_has_the_points_since_the_rules_changed_is_said_to_become_engaged(
    rows: Rows, conn: Connection
) -> None:
    program = await rows.program()
    await rows.engagement(program, await rows.contact("ann@y.test"), "active", score=20)
    await conn.execute("update engagement set first_sent = $1", START)

    explained = (await show(conn, "ann@y.test")).explained["sales"]

    assert "Next, with a sign of life: Engaged, for the points are there since the rules changed." in explained


async def test_a_state_is_explained_by_rules_facts_cause_and_what_comes_next(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann, bob, eve = [await rows.contact(f"{name}@y.test") for name in ("ann", "bob", "eve")]
    click = "click on link 3 of nudge-2, job 17"
    for contact, state in ((ann, "active"), (bob, "cooling"), (eve, "engaged")):
        await rows.engagement(program, contact, state, score=15)
    await conn.execute(
        "update engagement set first_sent = $1, last_sign = $1, ignored = 4, window_until = $2 where contact_id = $3",
        START, START + minutes(5), ann,
    )  # fmt: skip
    await conn.execute("update engagement set cycle = 1, cool_until = $1 where contact_id = $2",
                       START + timedelta(days=30), bob)  # fmt: skip
    await rows.transition(program, bob, "cooling", "attempts", "ignored attempt 5 of 5")
    await rows.transition(program, eve, "engaged", "threshold", click)
    await rows.transition(program, eve, "cooling", "days", "no sign for 90 days", at=START + minutes(1))
    await conn.execute(
        "insert into transition (stream_id, contact_id, from_state, to_state, why, fact, at, takes_back)"
        " select stream_id, contact_id, from_state, to_state, why, '', at, id from transition where why = 'days'"
    )

    told = {name: (await show(conn, f"{name}@y.test")).explained["sales"] for name in ("ann", "bob", "eve")}

    rules, facts, next_ = told["ann"]
    assert rules == (
        "The rules of sales, version 1: Engaged at 20 points (open 5, click 10, page 15);"
        " Inactive after 5 unanswered windows of 3d, or 90 days without a sign."
    )
    assert facts == (
        f"Active: 15 of 20 points since {local(START)}; last sign of life {local(START)};"
        " 4 of 5 attempts ignored in a row."
    )
    assert next_ == (
        f"Next, if nothing is heard: ignored attempt 5 of 5 at {local(START + minutes(5))}, and so Inactive."
    )
    cause, next_ = told["bob"][2:]
    assert cause == f"Became Inactive at {local(START)}: ignored attempt 5 of 5 (rules of sales, version 1)."
    assert next_ == (
        f"Next: cool-down 1 ends at {local(START + timedelta(days=30))}, then a reactivation program may ask;"
        " none runs; 1 more may follow."
    )
    assert told["eve"][2] == (
        f"Became Engaged at {local(START)} by a click on link 3 of nudge-2, job 17 (rules of sales, version 1)."
    )
