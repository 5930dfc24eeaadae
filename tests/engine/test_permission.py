"""Unsubscribing, suppressing, releasing: in one transaction with all that follows."""

import asyncio
from datetime import timedelta

import pytest

from engine.permission import end_break, stop_measuring, subscribe
from engine.policy import Policy
from engine.rows import set_bases
from engine.service import Catalogue, Suppress, release, retell, suppress, unsubscribe
from mtad.base.db import in_transaction
from mtad.base.errors import InputError
from tests.engine.world import DAY, START, World, definition, event_id


async def test_unsubscribing_reaches_entries_and_queued_jobs_of_the_stream_only(world: World) -> None:
    stream, other = await world.stream(), await world.stream("other")
    program, newsletter = await world.program(stream, definition()), await world.program(other, definition("letter"))
    contact = await world.contact("a@example.com", stream, other)
    entry, stays = await world.entry(program, contact), await world.entry(newsletter, contact)
    waiting, kept = await world.queued(program, contact, entry=entry), await world.queued(newsletter, contact)

    assert await unsubscribe(
        world.pool, contact_id=contact, program_id=program, event_id=event_id(1), at=START, how="one_click"
    )

    status = "select status::text, changed, changed_by from subscription where stream_id = $1"
    assert await world.one(status, stream) == ("unsubscribed", START, "one_click")
    assert await world.conn.fetchval(status, other) == "subscribed"
    assert (await world.why(entry), await world.why(stays)) == ("unsubscribed", None)
    assert (await world.due(waiting), await world.due(kept)) == (True, False)
    assert await world.gate(contact) == 2
    assert await world.conn.fetchval("select kind from event where id = $1", event_id(1)) == "unsubscribe"


async def test_the_same_unsubscribe_read_again_after_a_new_permission_changes_nothing(world: World) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com", stream)

    async def again() -> bool:
        return await unsubscribe(
            world.pool, contact_id=contact, stream_id=stream, event_id=event_id(1), at=START, how="one_click"
        )

    assert await again()
    await world.conn.execute("update subscription set status = 'subscribed'")

    assert not await again()
    assert await world.conn.fetchval("select status::text from subscription") == "subscribed"
    assert await world.gate(contact) == 2


@pytest.mark.parametrize(
    ("since", "stays"),
    [
        ("source = 'form:site', consent_at = now()", True),
        ("changed_by = 'preferences, undone', changed = now()", True),
        ("changed_by = 'preferences', changed = now(), break_until = now() + interval '30 d'", False),
        ("source = 'form:site', consent_at = now() - interval '355 minutes'", False),
        ("source = 'a file', consent_at = now()", False),
        ("source = 'form:site', consent_at = 'infinity'", False),
    ],
)
async def test_an_unsubscribe_that_is_told_late_takes_back_no_permission_that_the_person_gave_since(
    world: World, since: str, stays: bool
) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com", stream)
    entry = await world.entry(await world.program(stream, definition()), contact)
    await world.conn.execute(f"update subscription set {since}")
    at = await world.conn.fetchval("select now() - interval '6 hours'")

    async def leave(number: int, *, late: bool) -> str:
        await unsubscribe(
            world.pool, contact_id=contact, stream_id=stream, event_id=event_id(number), at=at, how="one_click",
            late=late,
        )  # fmt: skip
        return str(await world.conn.fetchval("select status::text from subscription"))

    for _ in range(2):
        assert await leave(1, late=True) == ("subscribed" if stays else "unsubscribed")
    assert await world.why(entry) == (None if stays else "unsubscribed")
    assert await world.conn.fetchval("select kind from event") == "unsubscribe"
    assert await leave(2, late=False) == "unsubscribed", "it is now, whatever the host's clock says"


async def test_an_unsubscribe_that_takes_nothing_back_is_told_as_a_replay_finds_it(world: World) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com", stream)
    at = await world.conn.fetchval("select now() - interval '6 hours'")
    await world.engagement(stream, contact, state="trying", cycle=1, told=at - DAY)
    await set_bases(world.conn, [(stream, contact)])
    await world.conn.execute("update subscription set source = 'form:site', consent_at = now()")

    await unsubscribe(
        world.pool, contact_id=contact, stream_id=stream, event_id=event_id(1), at=at, how="one_click", late=True
    )

    assert await world.conn.fetchval("select status::text from subscription") == "subscribed"
    assert await world.state(stream, contact) == ("cooling", 0)
    await in_transaction(world.pool, lambda conn: retell(conn, [(stream, contact)]))
    assert await world.state(stream, contact) == ("cooling", 0)


async def test_who_comes_back_by_ending_a_break_stays_after_a_replay(world: World) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact, state="cooling", cycle=1, told=START)
    await set_bases(world.conn, [(stream, contact)])
    await world.conn.execute("update subscription set break_until = now() + interval '9 d'")

    assert await in_transaction(
        world.pool,
        lambda conn: end_break(conn, contact, stream, event_id=event_id(1), at=START + DAY, how="preferences"),
    )
    for _ in range(2):
        assert await world.state(stream, contact) == ("reactivated", 0)
        await in_transaction(world.pool, lambda conn: retell(conn, [(stream, contact)]))


async def test_the_same_unsubscribe_twice_at_once_is_one(world: World) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com", stream)

    told = await asyncio.gather(
        *(
            unsubscribe(world.pool, contact_id=contact, stream_id=stream, event_id=event_id(1), at=START, how="page")
            for _ in range(4)
        )
    )

    assert sorted(told) == [False, False, False, True]


async def test_first_refusal_keeps_its_time(world: World) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com", stream)
    for number, how in ((1, "one_click"), (2, "page")):
        await unsubscribe(
            world.pool,
            contact_id=contact,
            stream_id=stream,
            event_id=event_id(number),
            at=START + number * DAY,
            how=how,
        )

    row = await world.one("select changed, changed_by from subscription")

    assert row == (START + DAY, "one_click")
    assert await world.conn.fetchval("select count(*) from event") == 2


async def test_refusal_without_a_permission_is_kept(world: World) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com")

    assert await unsubscribe(
        world.pool, contact_id=contact, stream_id=stream, event_id=event_id(1), at=START, how="operator"
    )

    assert await world.conn.fetchval("select status::text from subscription") == "unsubscribed"


async def test_unsubscribing_keeps_the_state_but_ends_a_reactivation(world: World) -> None:
    stream = await world.stream()
    engaged, trying = await world.contact("a@example.com", stream), await world.contact("b@example.com", stream)
    await world.engagement(stream, engaged, state="engaged", score=25)
    await world.engagement(stream, trying, state="trying", cycle=1)
    for number, contact in enumerate((engaged, trying)):
        await unsubscribe(
            world.pool, contact_id=contact, stream_id=stream, event_id=event_id(number), at=START, how="page"
        )

    assert await world.state(stream, engaged) == ("engaged", 25)
    assert await world.state(stream, trying) == ("cooling", 0)
    assert await world.transitions(trying) == [("trying", "cooling", "unsubscribed", "page")]


@pytest.mark.parametrize("unknown", ["contact", "program"])
async def test_nobody_cannot_unsubscribe(world: World, unknown: str) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)

    told = await unsubscribe(
        world.pool,
        contact_id=999 if unknown == "contact" else contact,
        program_id=999 if unknown == "program" else program,
        event_id=event_id(1),
        at=START,
        how="page",
    )

    assert told is False
    assert await world.conn.fetchval("select count(*) from event") == 0


@pytest.mark.parametrize(("scope", "transactional"), [("all", True), ("marketing", False)])
async def test_suppressing_ends_entries_and_wakes_the_mail_in_its_scope(
    world: World, scope: str, transactional: bool
) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    receipts = await world.program(stream, definition("receipts", class_=0))
    contact = await world.contact("a@example.com", stream)
    entry = await world.entry(program, contact)
    advert = await world.queued(program, contact, entry=entry)
    receipt = await world.queued(receipts, contact, class_=0)
    row = Suppress("a@example.com", scope, "manual", "test")  # type: ignore[arg-type]

    assert await in_transaction(world.pool, lambda conn: suppress(conn, [row])) == 1

    assert await world.why(entry) == "suppressed"
    assert (await world.due(advert), await world.due(receipt)) == (True, transactional)
    assert await world.gate(contact) == 2


@pytest.mark.parametrize(("reason", "why"), [("hard_bounce", "bounced"), ("complained", "complained")])
async def test_entry_says_what_suppressed_its_address(world: World, reason: str, why: str) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com", stream)
    entry = await world.entry(await world.program(stream, definition()), contact)

    await in_transaction(world.pool, lambda conn: suppress(conn, [Suppress("a@example.com", "all", reason, "test")]))

    assert await world.why(entry) == why


async def test_complaint_ends_a_reactivation_on_every_stream(world: World) -> None:
    streams = [await world.stream("one"), await world.stream("two")]
    contact = await world.contact("a@example.com", *streams)
    for stream in streams:
        await world.engagement(stream, contact, state="trying", cycle=1)

    await in_transaction(
        world.pool, lambda conn: suppress(conn, [Suppress("a@example.com", "marketing", "complained", "arf")])
    )

    assert [await world.state(stream, contact) for stream in streams] == [("cooling", 0)] * 2


async def test_suppressing_twice_keeps_the_later_end_and_counts_once(world: World) -> None:
    until = START + 400 * DAY

    async def again(*rows: Suppress) -> int:
        return await in_transaction(world.pool, lambda conn: suppress(conn, rows))

    assert await again(Suppress("a@example.com", "all", "manual", "x", until)) == 1
    assert await again(Suppress("a@example.com", "all", "hard_bounce", "y", until - DAY)) == 0
    assert await world.conn.fetchval("select until from suppression") == until
    assert await again(Suppress("a@example.com", "all", "hard_bounce", "y")) == 0
    row = await world.one("select until = 'infinity', reason from suppression")
    assert row == (True, "manual")


async def test_lapsed_suppression_is_taken_up_with_its_new_reason(world: World) -> None:
    await world.conn.execute(
        "insert into suppression (key, scope, reason, source, until) values ('a@example.com', 'all', 'hard_bounce',"
        " 'x', now() - interval '1 d')"
    )

    fresh = await in_transaction(
        world.pool, lambda conn: suppress(conn, [Suppress("a@example.com", "all", "manual", "y")])
    )

    row = await world.one("select reason, source, until > now() from suppression")
    assert (fresh, row) == (1, ("manual", "y", True))


async def test_suppressed_domain_raises_the_epoch_and_reaches_the_catalogue(world: World) -> None:
    catalogue = Catalogue(world.pool)
    await catalogue.need([], [], 1)
    assert catalogue.suppressed_domains == frozenset()

    await in_transaction(world.pool, lambda conn: suppress(conn, [Suppress("@example.com", "all", "manual", "test")]))
    epoch = await world.conn.fetchval("select version from epoch")
    await catalogue.need([], [], epoch)

    assert epoch == 2
    assert (catalogue.epoch, catalogue.suppressed_domains) == (2, frozenset({"example.com"}))

    assert await in_transaction(world.pool, lambda conn: release(conn, ["@example.com"], "ann")) == 1
    await catalogue.need([], [], 3)
    assert catalogue.suppressed_domains == frozenset()


async def test_domain_cannot_be_suppressed_for_advertising_only(world: World) -> None:
    with pytest.raises(InputError, match=r"@example\.com"):
        await suppress(world.conn, [Suppress("@example.com", "marketing", "manual", "test")])


async def test_released_address_is_open_again_and_it_is_known_who_did_it(world: World) -> None:
    contact = await world.contact("a@example.com")
    rows = [Suppress("a@example.com", "all", "manual", "t"), Suppress("a@example.com", "marketing", "complained", "t")]
    await in_transaction(world.pool, lambda conn: suppress(conn, rows))

    released = await in_transaction(world.pool, lambda conn: release(conn, ["a@example.com", "b@example.com"], "ann"))

    assert released == 2
    assert await world.conn.fetchval("select count(*) from suppression where released is not null") == 2
    assert await world.gate(contact) == 3
    data = await world.conn.fetch("select contact_id, data from event where kind = 'release'")
    assert [tuple(row) for row in data] == [(contact, {"key": "a@example.com", "by": "ann"})] * 2


async def test_erasure_is_not_released(world: World) -> None:
    await in_transaction(world.pool, lambda conn: suppress(conn, [Suppress("a@example.com", "all", "erased", "test")]))

    assert await in_transaction(world.pool, lambda conn: release(conn, ["a@example.com"], "ann")) == 0


async def test_suppressing_many_at_once_from_two_sides_takes_no_deadlock(world: World) -> None:
    stream = await world.stream()
    program = await world.program(stream, definition())
    contacts = [await world.contact(f"{n}@example.com", stream) for n in range(50)]
    for contact in contacts:
        await world.queued(program, contact, entry=await world.entry(program, contact))
    rows = [Suppress(f"{n}@example.com", "all", "manual", "test", START + timedelta(days=900)) for n in range(50)]

    counts = await asyncio.gather(
        in_transaction(world.pool, lambda conn: suppress(conn, rows)),
        in_transaction(world.pool, lambda conn: suppress(conn, rows[::-1])),
    )

    assert sorted(counts) == [0, 50]


async def test_consent_to_be_measured_is_withdrawn_as_often_as_it_was_given(world: World) -> None:
    stream = await world.stream()
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact, state="cooling", cycle=1)
    for number in range(2):
        await world.conn.execute("update subscription set tracking = 'full'")

        stopped = await in_transaction(
            world.pool,
            lambda conn, number=number: stop_measuring(  # type: ignore[misc]
                conn, contact, [stream], event_id=event_id(number), at=START + number * DAY, how="page"
            ),
        )

        assert stopped == {stream}
    assert await world.state(stream, contact) == ("active", 0)
    assert await world.conn.fetchval("select told from engagement_base") == START + DAY


async def test_who_withdraws_leaves_no_origin_of_earlier_hits_on_the_stream(world: World) -> None:
    stream, other = await world.stream(), await world.stream("other")
    ann, bea = await world.contact("a@example.com", stream, other), await world.contact("b@example.com", stream)
    for number, (contact, of) in enumerate([(ann, stream), (ann, None), (ann, other), (bea, stream)]):
        await world.conn.execute(
            "insert into event (id, kind, at, contact_id, stream_id, class, data) values ($1, 'click', $2, $3, $4,"
            " 'human', $5)",
            event_id(number), START, contact, of, {"agent": "Firefox", "network": "192.0.2.0/24", "why": ["x"]},
        )  # fmt: skip

    await in_transaction(
        world.pool,
        lambda conn: stop_measuring(conn, ann, [stream], event_id=event_id(9), at=START, how="page"),
    )

    rows = await world.conn.fetch("select data from event where kind = 'click' order by id")
    assert [sorted(row[0]) for row in rows] == [["why"], ["why"], *[["agent", "network", "why"]] * 2]


@pytest.mark.parametrize("said", ["by the person", "by the stream"])
async def test_mail_from_before_the_yes_to_be_measured_is_never_taken_for_ignored(world: World, said: str) -> None:
    stream = await world.stream(policy=Policy(attempts=2), tracking="none")
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.engagement(stream, contact, told=START + 10 * DAY)
    for day in (0, 10):
        await world.mailed(program, contact, at=START + day * DAY)
    if said == "by the person":
        await in_transaction(
            world.pool,
            lambda conn: subscribe(
                conn, contact, stream, event_id=event_id(1), at=START + 20 * DAY, source="form:site",
                asked_to_measure=True, may_measure=True,
            ),
        )  # fmt: skip
    else:
        await world.conn.execute(
            "insert into stream_version (stream_id, version, definition, made_by, made)"
            " select stream_id, 2, jsonb_set(definition, '{tracking}', '\"full\"'), 'test', $1 from stream_version",
            START + 20 * DAY,
        )
        await world.conn.execute("update stream set version = 2")
    await world.hears(START + 30 * DAY)

    await in_transaction(world.pool, lambda conn: retell(conn, [(stream, contact)]))

    assert await world.state(stream, contact) == ("active", 0)
    assert await world.transitions(contact) == []
