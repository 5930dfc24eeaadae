"""Silence is concluded only where we have heard: trackers, their journals, providers, an address out of reach."""

from datetime import UTC, datetime

import pytest

from engine.policy import Policy
from engine.service import fold, holds, not_heard, sweep
from mtad.base.ids import uuid7
from tests.engine.windows import NOW, POLICY, in_window, row
from tests.engine.world import DAY, World, definition


@pytest.mark.parametrize("read_until", [None, NOW - 7 * DAY])
async def test_our_blindness_is_not_their_silence(world: World, read_until: datetime | None) -> None:
    if read_until:
        await world.hears(read_until)
    stream = await world.stream(policy=POLICY)
    contact = await world.contact("a@example.com", stream)
    await in_window(world, stream, contact, ignored=1)

    assert await sweep(world.pool) == 0
    assert (await row(world, contact))[0] == "active"

    await world.hears(NOW)
    assert await sweep(world.pool) == 1
    assert (await row(world, contact))[0] == "cooling"


async def test_what_died_unread_is_waited_for_until_its_host_has_read_on_or_a_week_is_over(world: World) -> None:
    """A second host lives and reads its own. The year 1 is no answer: it would take back what was concluded before."""
    await world.hears(NOW)
    stream = await world.stream(policy=POLICY)
    contact = await world.contact("a@example.com", stream)
    await in_window(world, stream, contact, ignored=1)
    await world.conn.execute(
        "insert into worker (host, slot, pid, started, beat, dead) values ('there', 0, 1, $1, $2, $2)",
        NOW - 9 * DAY, NOW - 6 * DAY,
    )  # fmt: skip

    assert await sweep(world.pool) == 0
    assert await world.conn.fetchval("select read_until()") == NOW - 9 * DAY

    for read in ("-infinity", "infinity"):  # not yet; by one that does not hear
        await world.conn.execute(
            "insert into worker (host, slot, pid, ingested_until) values ('there', 0, 2, $1::text::timestamptz)", read
        )
        assert await sweep(world.pool) == 0
    await world.conn.execute("update worker set ingested_until = $1 where pid = 2", NOW)
    assert await world.conn.fetchval("select read_until()") == NOW
    await world.conn.execute("delete from worker where pid = 2")
    assert await sweep(world.pool) == 0
    await world.conn.execute("update worker set dead = dead - interval '1 d 1 h' where dead is not null")
    assert await sweep(world.pool) == 1
    assert (await row(world, contact))[0] == "cooling"


async def test_postgres_away_over_many_window_ends_makes_nobody_inactive_who_answered_meanwhile(world: World) -> None:
    """What was heard in that time stands in journals, and is brought in before any silence is concluded."""
    await world.hears(NOW - 6 * DAY)
    stream = await world.stream(policy=POLICY)
    program = await world.program(stream, definition())
    contacts, jobs = [], []
    for n in range(10):
        contacts.append(await world.contact(f"{n}@example.com", stream))
        await in_window(world, stream, contacts[n], closed=n * DAY / 2, ignored=1)
        jobs.append(await world.mailed(program, contacts[n], at=NOW - n * DAY / 2 - 2 * DAY))

    assert await sweep(world.pool) == 0
    for n in range(1, 10):
        await world.hit(jobs[n], "click", at=NOW - n * DAY / 2 - DAY / 4)
    assert await fold(world.pool) == 9
    await world.hears(NOW)
    await sweep(world.pool)

    states = [(await row(world, contact))[:2] for contact in contacts]
    assert states == [("cooling", 0)] + [("active", 0)] * 9


async def test_silence_waits_for_hits_that_are_not_judged(world: World) -> None:
    await world.hears(NOW)
    stream = await world.stream(policy=POLICY)
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await in_window(world, stream, contact, ignored=1)
    job = await world.mailed(program, contact, at=NOW - 4 * DAY)
    await world.hit(job, "click", at=NOW - 2 * DAY, class_=None)

    assert await sweep(world.pool) == 0


async def test_nobody_is_silent_while_no_tracker_lives_whoever_sends(world: World) -> None:
    """The only one left in order, with nothing unread."""
    stream = await world.stream(policy=POLICY)
    contact = await world.contact("a@example.com", stream)
    await in_window(world, stream, contact, ignored=1)
    await world.conn.execute(
        "insert into worker (host, slot, pid, started, ingested_until, dead)"
        " values ('here', 0, 1, $1, $2, $3), ('there', 0, 1, $1, 'infinity', null)",
        NOW - 300 * DAY, NOW + 28 * DAY, NOW - 2 * DAY,
    )  # fmt: skip

    assert await sweep(world.pool) == 0
    assert await world.conn.fetchval("select read_until()") == NOW - 2 * DAY

    await world.hears(NOW)
    assert await sweep(world.pool) == 1


@pytest.mark.parametrize("senders", [0, 1])
async def test_window_is_prolonged_by_the_time_in_which_no_tracker_lived(world: World, senders: int) -> None:
    """Whatever workers without one did on other hosts."""
    stream = await world.stream(policy=POLICY)
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await world.mailed(program, contact, at=NOW - 9 * DAY)
    await world.mailed(program, contact, at=NOW - 4 * DAY)
    await in_window(world, stream, contact, ignored=1)
    await world.conn.execute(
        "insert into worker (host, slot, pid, started, beat, dead, ingested_until)"
        " values ('here', 0, 1, $1, $2, $2, $2), ('here', 0, 2, $3, $4, null, $4)",
        NOW - 300 * DAY, NOW - 3 * DAY, NOW - DAY - DAY / 2, NOW,
    )  # fmt: skip
    await world.conn.execute(
        "insert into worker (host, slot, pid, started, ingested_until) select 'there', n, 1, $1, 'infinity'"
        " from generate_series(1, $2) n", NOW - 300 * DAY, senders,
    )  # fmt: skip

    await sweep(world.pool)

    until = NOW - DAY + (1.5 * DAY)
    assert await row(world, contact) == ("active", 1, 0, until, until)


async def came(world: World, program: int, provider: str, at: datetime, mails: int, answered: int) -> None:
    """Mail to people at a provider, all to contact 0; so much of it was answered within the hour."""
    await world.conn.execute(
        "insert into ledger (job_id, program_id, stream_id, message_id, contact_id, site_id, outcome, reason, attempts,"
        " doubts, created, ended) select 1000000 + 4 * nextval('job_id'), p.id, p.stream_id, m.id, 0, l.site_id,"
        " 'delivered', '', 1, 0, $3, $3 from program p join message m on m.program_id = p.id and m.node = 'one'"
        " join lane l on l.provider = $2, generate_series(1, $4) where p.id = $1",
        program, provider, at, mails,
    )  # fmt: skip
    await world.conn.execute(
        "insert into answer (job_id, kind, contact_id, stream_id, at, event_id, points)"
        " select job_id, 'open', 0, stream_id, ended + interval '1 h', gen_random_uuid(), 5 from ledger l"
        " join lane using (site_id) where provider = $1 and ended = $2 limit $3",
        provider, at, answered,
    )  # fmt: skip


async def test_windows_at_a_provider_that_went_silent_stay_open_until_signs_return(world: World) -> None:
    stream = await world.stream(policy=POLICY)
    program = await world.program(stream, definition())
    contacts = [await world.contact(f"a@{name}.test", stream) for name in ("gmail", "gmx")]
    await world.conn.execute(
        "with s as (insert into site (name, hosts) select name, '{}' from domain returning id, name),"
        " d as (update domain set site_id = s.id from s where s.name = domain.name)"
        " insert into lane (site_id, rate, burst, sessions, provider)"
        " select id, 1, 1, 1, split_part(name, '.', 1) from s"
    )
    fell, rose = NOW - 18 * DAY, NOW - 10 * DAY
    # Of what fell silent nothing is counted yet when the last window of this one closes.
    begun = datetime.fromtimestamp(fell.timestamp() // (1.5 * 86400) * 1.5 * 86400, UTC)
    early = await world.contact("b@gmail.test", stream)
    await world.mailed(program, early, at=begun - 9 * DAY)
    await world.mailed(program, early, at=begun - 0.1 * DAY)
    for provider, when_down in (("gmail", 2), ("gmx", 50)):
        await came(world, program, provider, NOW - 30 * DAY, 200, 100)
        await came(world, program, provider, fell, 100, when_down)
        await came(world, program, provider, rose, 100, 50)
    entries = [await world.entry(program, contact, entered=fell) for contact in contacts]
    await world.conn.execute("update entry set due = $1", fell + 3 * DAY)
    for contact, entry in zip(contacts, entries, strict=True):
        await world.mailed(program, contact, at=fell, entry=entry)
        await in_window(world, stream, contact, closed=NOW - fell - 3 * DAY)
    opened = {"told": begun - 0.1 * DAY, "first_sent": begun - 9 * DAY}
    await in_window(world, stream, early, closed=NOW - begun - 2.9 * DAY, ignored=1, **opened)
    await world.hears(begun + 2.95 * DAY)
    await sweep(world.pool)
    assert (await row(world, early))[0] == "cooling"

    await world.hears(fell + 4 * DAY)
    await sweep(world.pool)

    assert (await row(world, early))[:2] == ("active", 1)
    (held,) = await holds(world.conn)
    assert (held.stream, held.provider) == ("sales", "gmail")
    assert "of 100 mails to gmail that were looked at 2 were answered soon, where 50 would be usual" in held.why
    assert [(await row(world, one))[1] for one in contacts] == [0, 1]
    assert (await row(world, contacts[0]))[3] >= fell + 7 * DAY
    later = await not_heard(world.conn, dict.fromkeys(entries, 3 * 86400.0))
    assert [entry for entry, until in later.items() if until > fell + 3 * DAY] == entries[:1]

    await world.hears(rose - DAY)
    await sweep(world.pool)
    assert [(await row(world, one))[1] for one in contacts] == [0, 1]

    await world.hears(NOW)
    await sweep(world.pool)
    assert await holds(world.conn) == []
    until = await world.conn.fetchval("select until from provider_hold")
    assert rose <= until <= rose + 5 * DAY  # two half windows, and the rest of one
    assert [(await row(world, one))[:4] for one in contacts] == [("active", 1, 0, None)] * 2


async def fetched(world: World, stream: int, at: datetime) -> None:
    """By some machine, of some mail of the stream."""
    await world.conn.execute(
        "insert into event (id, kind, at, contact_id, stream_id, class) values ($1, 'open', $2, 0, $3, 'machine')",
        uuid7(int(at.timestamp() * 1000), bytes(10)), at, stream,
    )  # fmt: skip


@pytest.mark.parametrize("noticed", [False, True])
async def test_tracker_that_lives_but_is_out_of_reach_makes_nobody_inactive(world: World, noticed: bool) -> None:
    """All fall silent alike, and so few are due that no brake stops it. Where machines come through, it is they."""
    stream = await world.stream(policy=Policy(attempts=1))
    program = await world.program(stream, definition())
    contact = await world.contact("a@gmail.test", stream)
    await world.conn.execute(
        "with s as (insert into site (name, hosts) values ('gmail.test', '{}') returning id)"
        " insert into lane (site_id, rate, burst, sessions, provider) select id, 1, 1, 1, 'gmail' from s"
    )
    away = NOW - 18 * DAY
    await came(world, program, "gmail", NOW - 30 * DAY, 100, 50)
    await came(world, program, "gmail", away, 100, 0)
    await in_window(world, stream, contact, closed=NOW - away - 3 * DAY)
    await world.mailed(program, contact, at=away)
    if noticed:
        await fetched(world, stream, away + DAY)

    await world.hears(away + 5 * DAY)
    await sweep(world.pool)

    assert [held.provider for held in await holds(world.conn)] == ["*"] * (not noticed)
    await world.hears(away + 9 * DAY)
    await sweep(world.pool)
    assert (await row(world, contact))[0] == ("cooling" if noticed else "active")

    await fetched(world, stream, away + 9 * DAY)
    await world.hears(NOW)
    await sweep(world.pool)
    assert await holds(world.conn) == []
    assert await world.conn.fetchval("select since >= $1 from engagement", away + (3 if noticed else 9) * DAY)
    assert (await row(world, contact))[0] == "cooling"
