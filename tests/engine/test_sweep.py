"""Sweeps conclude silence in a real database: only what is due, never of too many, once."""

import asyncio
from functools import partial

from engine.listening import recall, recall_page
from engine.policy import Policy
from engine.rules import Brake
from engine.service import brakes, release_brake, retell, sweep, told_until
from mtad.base.db import Connection, in_transaction
from tests.engine.windows import NOW, POLICY, in_window, row
from tests.engine.world import DAY, World, definition


async def test_window_that_closes_without_a_sign_is_an_ignored_attempt(world: World) -> None:
    await world.hears(NOW)
    stream = await world.stream(policy=POLICY)
    contact = await world.contact("a@example.com", stream)
    await in_window(world, stream, contact)

    assert await sweep(world.pool) == 1
    assert await row(world, contact) == ("active", 1, 0, None, None)
    assert await sweep(world.pool) == 0


async def test_last_attempt_pauses_ends_the_ways_and_raises_the_gate(world: World) -> None:
    await world.hears(NOW)
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
    await world.hears(NOW)
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
    await world.hears(NOW)
    stream = await world.stream(policy=POLICY)
    program = await world.program(stream, definition())
    contact = await world.contact("a@example.com", stream)
    await in_window(world, stream, contact)
    await world.mailed(program, contact, at=NOW - DAY / 2)

    await sweep(world.pool)

    until = NOW - DAY / 2 + 3 * DAY
    assert await row(world, contact) == ("active", 1, 0, until, until)


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
    await world.hears(NOW)
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
    await world.hears(NOW)
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
    await world.hears(NOW)
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
    await world.hears(NOW)
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
    await world.hears(NOW)
    stream = await world.stream(policy=Policy())
    await audience(world, stream, 20_000, 2500)
    await world.conn.execute("vacuum analyze engagement")
    before = await read_rows(world.conn)

    assert await sweep(world.pool) == 2500

    assert await read_rows(world.conn) - before <= 1.2 * 2500 * 2  # once to read, once to write
