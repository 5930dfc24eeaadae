"""Sweeps conclude silence in a real database: only what is due, only where we have heard, never of too many."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from engine.listening import recall, recall_page
from engine.policy import Policy
from engine.rules import Brake
from engine.service import brakes, fold, holds, not_heard, release_brake, retell, sweep, told_until
from mtad.base.db import Connection, in_transaction
from mtad.base.ids import uuid7
from tests.engine.world import DAY, World, definition

NOW = datetime.now(UTC).replace(microsecond=0)
POLICY = Policy(attempts=2)


async def hears(world: World, until: datetime = NOW) -> None:
    """One worker, whose journal has been read up to then."""
    await world.conn.execute("delete from worker")
    await world.conn.execute(
        "insert into worker (host, slot, pid, started, ingested_until) values ('here', 0, 1, $1, $2)",
        NOW - 300 * DAY,
        until,
    )


async def in_window(world: World, stream: int, contact: int, *, closed: timedelta = DAY, **columns: Any) -> None:
    """Mailed, and the window has been over for so long."""
    until = NOW - closed
    opened = until - timedelta(days=3)
    values = {"since": opened, "round_from": opened, "first_sent": opened, "window_until": until, "told": opened}
    await world.engagement(stream, contact, **(values | {"wake_at": until} | columns))


async def row(world: World, contact: int) -> tuple[Any, ...]:
    return await world.one(
        "select state::text, ignored, unclear, window_until, wake_at from engagement where contact_id = $1", contact
    )


async def test_window_that_closes_without_a_sign_is_an_ignored_attempt(world: World) -> None:
    await hears(world)
    stream = await world.stream(policy=POLICY)
    contact = await world.contact("a@example.com", stream)
    await in_window(world, stream, contact)

    assert await sweep(world.pool) == 1
    assert await row(world, contact) == ("active", 1, 0, None, None)
    assert await sweep(world.pool) == 0


async def test_last_attempt_pauses_ends_the_ways_and_raises_the_gate(world: World) -> None:
    await hears(world)
    stream = await world.stream(policy=POLICY)
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await in_window(world, stream, contact, ignored=1)
    entry = await world.entry(program, contact)
    job = await world.queued(program, contact, entry=entry)

    assert await sweep(world.pool) == 1

    since = NOW - DAY
    assert await row(world, contact) == ("cooling", 0, 0, None, since + 30 * DAY)
    assert await world.transitions(contact) == [("active", "cooling", "attempts", "ignored attempt 2 of 2")]
    assert (await world.gate(contact), await world.why(entry), await world.due(job)) == (2, "inactive", True)


async def test_veiled_mail_is_unclear(world: World) -> None:
    await hears(world)
    stream = await world.stream(policy=POLICY)
    program = await world.program(stream, definition())
    contact, other = [await world.contact(f"{n}@example.com", stream) for n in "ab"]
    await in_window(world, stream, contact, ignored=1)
    await in_window(world, stream, other, ignored=1, veiled=True)
    job = await world.mailed(program, contact, at=NOW - 4 * DAY)
    await world.hit(job, "open", at=NOW - 3 * DAY, class_="veiled")
    await world.conn.execute("delete from pending")

    await sweep(world.pool)

    assert [(await row(world, one))[:3] for one in (contact, other)] == [("active", 1, 1)] * 2


async def test_mail_that_came_after_the_end_of_a_window_opens_the_next(world: World) -> None:
    await hears(world)
    stream = await world.stream(policy=POLICY)
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await in_window(world, stream, contact)
    await world.mailed(program, contact, at=NOW - DAY / 2)

    await sweep(world.pool)

    until = NOW - DAY / 2 + 3 * DAY
    assert await row(world, contact) == ("active", 1, 0, until, until)


@pytest.mark.parametrize("read_until", [None, NOW - 7 * DAY])
async def test_our_blindness_is_not_their_silence(world: World, read_until: datetime | None) -> None:
    if read_until:
        await hears(world, read_until)
    stream = await world.stream(policy=POLICY)
    contact = await world.contact("a@example.com", stream)
    await in_window(world, stream, contact, ignored=1)

    assert await sweep(world.pool) == 0
    assert (await row(world, contact))[0] == "active"

    await hears(world)
    assert await sweep(world.pool) == 1
    assert (await row(world, contact))[0] == "cooling"


async def test_what_died_unread_is_waited_for_until_its_host_has_read_on_or_a_week_is_over(world: World) -> None:
    """A second host lives and reads its own. The year 1 is no answer: it would take back what was concluded before."""
    await hears(world)
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
    await hears(world, NOW - 6 * DAY)
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
    await hears(world)
    await sweep(world.pool)

    states = [(await row(world, contact))[:2] for contact in contacts]
    assert states == [("cooling", 0)] + [("active", 0)] * 9


async def test_silence_waits_for_hits_that_are_not_judged(world: World) -> None:
    await hears(world)
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

    await hears(world)
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
    await hears(world, begun + 2.95 * DAY)
    await sweep(world.pool)
    assert (await row(world, early))[0] == "cooling"

    await hears(world, fell + 4 * DAY)
    await sweep(world.pool)

    assert (await row(world, early))[:2] == ("active", 1)
    (held,) = await holds(world.conn)
    assert (held.stream, held.provider) == ("sales", "gmail")
    assert "of 100 mails to gmail that were looked at 2 were answered soon, where 50 would be usual" in held.why
    assert [(await row(world, one))[1] for one in contacts] == [0, 1]
    assert (await row(world, contacts[0]))[3] >= fell + 7 * DAY
    later = await not_heard(world.conn, dict.fromkeys(entries, 3 * 86400.0))
    assert [entry for entry, until in later.items() if until > fell + 3 * DAY] == entries[:1]

    await hears(world, rose - DAY)
    await sweep(world.pool)
    assert [(await row(world, one))[1] for one in contacts] == [0, 1]

    await hears(world)
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

    await hears(world, away + 5 * DAY)
    await sweep(world.pool)

    assert [held.provider for held in await holds(world.conn)] == ["*"] * (not noticed)
    await hears(world, away + 9 * DAY)
    await sweep(world.pool)
    assert (await row(world, contact))[0] == ("cooling" if noticed else "active")

    await fetched(world, stream, away + 9 * DAY)
    await hears(world)
    await sweep(world.pool)
    assert await holds(world.conn) == []
    assert await world.conn.fetchval("select since >= $1 from engagement", away + (3 if noticed else 9) * DAY)
    assert (await row(world, contact))[0] == "cooling"


async def audience(world: World, stream: int, size: int, silent: int) -> None:
    await world.conn.execute(
        "insert into contact (address, address_key, domain_id) select n, n, 1 from generate_series(1, $1::int) n", size
    )
    await world.conn.execute("insert into gate (contact_id) select id from contact on conflict do nothing")
    await world.conn.execute(
        "insert into engagement (stream_id, contact_id, since, round_from, first_sent, told, ignored, window_until,"
        " wake_at) select $1, id, $2, $2, $2, $2, 1, $3::timestamptz, $3::timestamptz + (id % 7) * interval '1 ms'"
        " from contact limit $4",
        stream, NOW - 4 * DAY, NOW - DAY, silent,
    )  # fmt: skip
    await world.conn.execute(
        "insert into engagement (stream_id, contact_id, since, round_from, first_sent)"
        " select $1, id, $2, $2, $2 from contact on conflict do nothing",
        stream, NOW - 4 * DAY,
    )  # fmt: skip


async def test_whom_to_replay_is_found_page_by_page_and_gone_on_with_where_it_stopped(world: World) -> None:
    stream = await world.stream()
    await world.contact("a@example.com")
    await audience(world, stream, 5001, 5002)
    since = NOW - 5 * DAY
    for provider in ("gmail", "*"):
        await recall(world.conn, stream, since, provider)

    pages = []
    while await in_transaction(world.pool, partial(recall_page, stream=stream)):
        pages.append(
            await world.conn.fetchval("select count(*) from engagement where (wake_at, held) = ($1, $1)", since)
        )

    assert pages == [5000, *[5002] * 5]  # of each provider two, and one time more to see that there are no others
    assert await world.conn.fetchval("select count(*) from recall") == 0


async def paused(world: World) -> int:
    return int(await world.conn.fetchval("select count(*) from engagement where state = 'cooling'"))


async def test_brake_stops_a_sweep_that_would_pause_six_percent_until_it_is_released(world: World) -> None:
    await hears(world)
    stream = await world.stream(policy=POLICY)
    await audience(world, stream, 5000, 300)

    await sweep(world.pool)
    await sweep(world.pool)

    assert await paused(world) == 0
    (held,) = await brakes(world.conn)
    assert (held.stream, held.silent, held.allowed, held.reachable) == ("sales", 300, 250, 5000)

    assert await release_brake(world.conn, "sales", "ann") == 300
    assert await release_brake(world.conn, "sales", "ann") is None
    await sweep(world.pool)
    assert (await paused(world), await brakes(world.conn)) == (300, [])


async def test_sweeps_of_a_day_count_together(world: World) -> None:
    await hears(world)
    stream = await world.stream(policy=Policy(attempts=2, brake=Brake(least=10)))
    await audience(world, stream, 1000, 40)
    await sweep(world.pool)
    assert await paused(world) == 40

    await world.conn.execute(
        "update engagement set ignored = 1, window_until = $1, wake_at = $1, told = $2"
        " where contact_id in (select contact_id from engagement where state = 'active' limit 11)",
        NOW - DAY, NOW - 4 * DAY,
    )  # fmt: skip
    await sweep(world.pool)

    assert (await paused(world), [held.silent for held in await brakes(world.conn)]) == (40, [11])


async def test_what_is_forgotten_for_its_age_changes_no_row(world: World) -> None:
    await hears(world)
    stream = await world.stream(policy=Policy(threshold=100, days=200, days_unclear=200))
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    first = NOW - 100 * DAY
    for day, kind in ((0, "open"), (10, "click"), (90, "open")):
        await world.hit(await world.mailed(program, contact, at=first + day * DAY), kind, at=first + (day + 1) * DAY)
    await world.conn.execute("delete from pending")
    await in_window(
        world, stream, contact, since=first, round_from=first, first_sent=first, score=20, last_sign=first + 91 * DAY
    )
    kept = "select state::text, score, last_sign, first_sent, round_from, ignored from engagement"

    await sweep(world.pool)
    before = await world.one(kept)
    await world.conn.execute("delete from event where at < $1", NOW - 45 * DAY)
    async with world.conn.transaction():
        await retell(world.conn, [(stream, contact)])

    assert await world.one(kept) == before == ("active", 20, first + 91 * DAY, first, first, 0)
    begin = await world.conn.fetchval("select told from engagement_base")
    assert NOW - 31 * DAY < begin <= NOW - 30 * DAY
    assert await told_until(world.conn, [(stream, contact), (stream, 0)]) == {(stream, contact): begin}


async def test_two_sweeps_and_a_fold_at_once_conclude_once(world: World) -> None:
    await hears(world)
    stream = await world.stream(policy=POLICY)
    await audience(world, stream, 2500, 100)

    await asyncio.gather(*(sweep(world.pool) for _ in range(3)))
    await sweep(world.pool)

    assert await paused(world) == 100
    assert await world.conn.fetchval("select count(*) from transition") == 100


async def read_rows(conn: Connection) -> int:
    """Rows of engagement that were read so far."""
    await conn.execute("select pg_stat_force_next_flush()")
    return int(
        await conn.fetchval("select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'engagement'")
    )


async def test_sweep_reads_no_row_that_is_not_due(world: World) -> None:
    await hears(world)
    stream = await world.stream(policy=Policy())
    await audience(world, stream, 20_000, 2500)
    await world.conn.execute("vacuum analyze engagement")
    before = await read_rows(world.conn)

    assert await sweep(world.pool) == 2500

    assert await read_rows(world.conn) - before <= 1.2 * 2500 * 2  # once to read, once to write
