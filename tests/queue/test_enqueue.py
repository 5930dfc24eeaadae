"""Audience → queue, and back to rest: start, forecast, pause, resume, cancel, next steps."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.service import Catalogue, Suppress, suppress
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.errors import InputError
from mtad.ops.audit import audit
from mtad.queue import advance, enqueue, store
from tests.queue.world import World
from tests.rows import Program, Rows

CONFIG = Config(domain="example.com")


async def audience(rows: Rows, number: int = 20) -> list[int]:
    """Subscribers; one each is unsubscribed, suppressed, complained, Inactive, of another country."""
    contacts = [await rows.contact(f"c{n}@reader.test", attributes={"country": "DE"}) for n in range(number)]
    await rows.contact("gone@reader.test", subscribed="unsubscribed", attributes={"country": "DE"})
    await rows.contact("elsewhere@reader.test", attributes={"country": "FR"})
    return contacts


async def start(pool: Pool, name: str) -> enqueue.Progress:
    await enqueue.schedule(pool, name)
    return [progress async for progress in enqueue.enqueue(pool, CONFIG, name)][-1]


async def draft(rows: Rows, **arguments: Any) -> Program:
    return await rows.program(status="draft", enqueued=None, audience={"country": ["DE", "AT"]}, **arguments)


async def test_everybody_in_the_audience_is_queued_or_left_out_with_a_reason(pool: Pool) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await draft(rows)
        contacts = await audience(rows)
        await suppress(conn, [Suppress("c0@reader.test", "all", "manual", "test"),
                              Suppress("c1@reader.test", "marketing", "complained", "test")])  # fmt: skip
        await rows.engagement(program, contacts[2], "cooling")
        await rows.engagement(program, contacts[8], "reactivated")
        await rows.engagement(program, contacts[9], "engaged")

    progress = await start(pool, "nudge")

    left_out = await pool.fetch("select reason, count(*) from ledger group by reason order by reason")
    assert (progress.queued, progress.left_out) == (17, 4)
    assert [tuple(row.values()) for row in left_out] == [
        ("complained", 1), ("inactive:cooling", 1), ("suppressed:manual", 1), ("unsubscribed", 1),
    ]  # fmt: skip
    assert await pool.fetchval("select count(*) from entry where ended is null") == 17
    first = await pool.fetch("select contact_id from job order by due limit 2")
    assert [row[0] for row in first] == [contacts[9], contacts[8]], "who reads is first, where not all can be"
    async with pool.acquire() as conn:
        assert (await audit(conn, "nudge")).adds_up


async def test_a_forecast_says_what_a_start_does(pool: Pool) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await draft(rows)
        contacts = await audience(rows)
        await suppress(conn, [Suppress("@reader.test", "all", "manual", "test")])
        await rows.contact("fine@other.test", attributes={"country": "AT"})
        await rows.engagement(program, contacts[2], "resting")

    predicted = await enqueue.forecast(pool, CONFIG, "nudge")
    assert await pool.fetchval("select count(*) from enrolled") == 0
    await start(pool, "nudge")

    skipped = {row[0]: row[1] for row in await pool.fetch("select reason, count(*) from ledger group by reason")}
    assert predicted.skipped == skipped
    assert predicted.send == await pool.fetchval("select count(*) from job") == 1


async def test_a_forecast_tells_what_waits_and_on_whom_elasticity_will_not_act(pool: Pool) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        await draft(rows)
        contacts = await audience(rows)
        cap = {"most": 1, "window": 86400.0, "name": "daily"}
        await conn.execute(
            "update stream_version set definition = jsonb_set(definition, '{policy}', $1)", {"slots": {"caps": [cap]}}
        )
        await conn.execute("update gate set sent = array[now()], sent_on = array[1] where contact_id = $1", contacts[0])
        await conn.execute("update subscription set tracking = 'hygiene' where contact_id = any($1)", contacts[:3])

    predicted = await enqueue.forecast(pool, CONFIG, "nudge")

    assert (predicted.send, predicted.deferred, predicted.waits) == (19, 1, {"cap:daily": 1})
    assert predicted.untracked == 3


async def test_an_interrupted_start_goes_on_and_nobody_is_queued_twice(pool: Pool) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        await draft(rows)
        await audience(rows)
    await enqueue.schedule(pool, "nudge")
    async for progress in enqueue.enqueue(pool, CONFIG, "nudge"):
        if progress.seen:
            break
    await pool.execute("update program set enqueued = null, enqueued_to = 3")

    progress = await start(pool, "nudge")

    assert progress.queued == 0
    assert await enqueue.started(pool, "nudge") == enqueue.Started(20, 1, "")
    assert await pool.fetchval("select count(*) from job") == 20
    assert await pool.fetchval("select sum(n) from tally where key = 'enrolled'") == 21


async def crowd(pool: Pool, number: int) -> None:
    """So many subscribers, which takes more than one page."""
    await pool.execute("insert into domain (name) values ('crowd.test')")
    await pool.execute(
        "insert into contact (address, address_key, domain_id, attributes) select n || '@crowd.test',"
        " n || '@crowd.test', id, '{\"country\": \"DE\"}' from domain, generate_series(1, $1::int) n"
        " where name = 'crowd.test'", number,
    )  # fmt: skip
    await pool.execute("insert into gate (contact_id) select id from contact")
    await pool.execute(
        "insert into subscription (stream_id, contact_id, status, basis, source, changed_by)"
        " select s.id, c.id, 'subscribed', 'consent', 'x', 'x' from stream s, contact c"
    )


async def test_a_page_that_another_start_took_meanwhile_is_read_again(pool: Pool) -> None:
    async with pool.acquire() as conn:
        await draft(Rows(conn))
    await crowd(pool, 3 * enqueue.PAGE - 1)
    await enqueue.schedule(pool, "nudge")
    slow = enqueue.enqueue(pool, CONFIG, "nudge")
    while (await anext(slow)).seen == 0:
        pass  # then one page is written, and the next one read

    quick = [progress.queued async for progress in enqueue.enqueue(pool, CONFIG, "nudge")]
    rest = [progress.queued async for progress in slow]

    assert (quick, rest) == ([0, enqueue.PAGE, 2 * enqueue.PAGE - 1], [enqueue.PAGE])
    assert await pool.fetchval("select count(*) from job") == 3 * enqueue.PAGE - 1
    assert await pool.fetchval("select count(distinct contact_id) from enrolled") == 3 * enqueue.PAGE - 1
    assert await pool.fetchval("select sum(n) from tally where key = 'enrolled'") == 3 * enqueue.PAGE - 1


async def test_starts_side_by_side_share_the_audience(pool: Pool) -> None:
    async with pool.acquire() as conn:
        await draft(Rows(conn))
    await crowd(pool, 3 * enqueue.PAGE)

    done = await asyncio.gather(start(pool, "nudge"), start(pool, "nudge"))

    assert sum(progress.queued for progress in done) == 3 * enqueue.PAGE
    assert (await enqueue.started(pool, "nudge")).queued == 3 * enqueue.PAGE
    assert await pool.fetchval("select count(*) from job") == 3 * enqueue.PAGE


async def test_a_paused_program_is_not_claimed_and_a_resumed_one_is(pool: Pool) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        await draft(rows)
        await audience(rows)
    await start(pool, "nudge")

    held = await enqueue.pause(pool, "nudge", "test")

    assert held == 20
    assert await pool.fetchval("select count(*) from job where not parked") == 0
    await enqueue.resume(pool, "nudge")
    assert await pool.fetchval("select count(*) from job where not parked and due <= now()") == 20
    assert await pool.fetchval("select status::text from program") == "running"


async def test_who_waits_for_a_next_mail_goes_on_at_the_max_rate_after_a_pause(pool: Pool) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await rows.program()
        await conn.execute("update program_version set definition = definition || '{\"spacing\": 60}'")
        now = datetime.now(UTC)
        dues = [
            now - timedelta(hours=1),
            now - timedelta(hours=2),
            now + timedelta(seconds=90),
            now + timedelta(hours=1),
        ]
        for n, due in enumerate(dues):
            await rows.entry(program, await rows.contact(f"c{n}@reader.test"), mail=2, due=due)
        first = await rows.contact("first@reader.test")
        await rows.queued(program, first, await rows.enrol(program, first), due=now - timedelta(minutes=90))
        await enqueue.pause(pool, "nudge", "test")

        await enqueue.resume(pool, "nudge")

        found = [row[0] for row in await conn.fetch("select due from entry order by contact_id")]
        mail, next_slot = (await conn.fetch("select j.due, p.next_slot from job j, program p"))[0]
    # The one that was due first goes at once, nobody before their time, and no two within a minute.
    minute = timedelta(minutes=1)
    assert found[1] <= datetime.now(UTC)
    assert (mail, found[0], found[2]) == tuple(found[1] + n * minute for n in (1, 2, 3))
    assert found[3] == dues[3]
    assert next_slot == found[0] + minute


async def test_a_program_that_goes_on_at_its_max_rate_locks_its_mail_in_order(world: World) -> None:
    """Mail that a worker gave back after the pause is not parked. Each test counts deadlocks."""
    conn = world.rows.conn
    await conn.execute("update program_version set definition = definition || '{\"spacing\": 60}'")
    given_back, parked = await world.job("a@reader.test"), await world.job("b@reader.test")
    await enqueue.pause(world.pool, "nudge", "test")
    await conn.execute("update job set parked = false where id = $1", given_back)
    lock = "select from job where id = $1 for update"

    async with world.pool.acquire() as other, asyncio.TaskGroup() as group, other.transaction():
        await other.execute(lock, given_back)
        group.create_task(enqueue.resume(world.pool, "nudge"))
        while not await conn.fetchval("select count(*) from pg_locks where not granted"):
            pass
        await other.execute(lock, parked)

    assert await conn.fetchval("select count(*) from job where not parked") == 2


async def test_a_cancelled_program_ends_its_entries_and_leaves_its_mails_to_the_gate(pool: Pool) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        await draft(rows)
        await audience(rows)
    await start(pool, "nudge")
    await enqueue.pause(pool, "nudge", "test")

    assert await enqueue.waiting(pool, "nudge") == enqueue.Waiting(mails=20, people=20)
    await enqueue.cancel(pool, "nudge", "test")
    with pytest.raises(InputError, match="is cancelled already"):
        await enqueue.waiting(pool, "nudge")

    assert await pool.fetchval("select count(*) from entry where ended is null") == 0
    assert await pool.fetchval("select count(*) from job where not parked and due <= now()") == 20


@pytest.mark.parametrize("status", ["paused", "done", "cancelled"])
async def test_what_is_over_or_paused_cannot_be_started(pool: Pool, status: str) -> None:
    async with pool.acquire() as conn:
        await Rows(conn).program(status=status)

    with pytest.raises(InputError, match=f"program nudge is {status}"):
        await enqueue.schedule(pool, "nudge")


async def test_an_unknown_program_is_named(pool: Pool) -> None:
    with pytest.raises(InputError, match="program 'nope' is unknown"):
        await enqueue.pause(pool, "nope", "test")


async def test_an_entry_whose_wait_is_over_gets_its_next_mail_once(pool: Pool) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await rows.program()
        contact = await rows.contact("ann@reader.test")
        await rows.mail(program, contact, "delivered")
        due = datetime.now(UTC) - timedelta(seconds=1)
        await rows.entry(program, contact, node="nudge-2", due=due)
        await conn.execute(
            "update program_version set definition = jsonb_set(definition, '{nodes,nudge-2,life}', '60')"
        )
    catalogue = Catalogue(pool)

    first = await advance.advance(pool, catalogue, CONFIG)
    second = await advance.advance(pool, catalogue, CONFIG)

    assert (first, second) == (1, 0)
    job = await pool.fetchrow("select message_id, class, prio, entry_id is not null as has_entry, not_after from job")
    assert job is not None
    assert tuple(job.values()) == (program.messages[1], 2, 12, True, due + timedelta(seconds=60))


async def test_a_series_that_ends_in_silence_makes_inactive_once_all_was_heard_and_one_that_was_answered_does_not(
    pool: Pool,
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await rows.program()
        for name in ("silent", "alive"):
            contact = await rows.contact(f"{name}@reader.test")
            await rows.engagement(program, contact)
            entry = await rows.entry(program, contact, node="end", due=before)
            await rows.mail(program, contact, "delivered", entry_id=entry)
        await conn.execute("update engagement set first_sent = now()")
        await conn.execute("update engagement set last_sign = now() where contact_id = $1", contact)
        tracker = await store.register_worker(conn, "here", 0, 1)
        await conn.execute("update worker set started = now() - interval '1 h'")

    assert await advance.advance(pool, Catalogue(pool), CONFIG) == 0, "a journal is not read up to then yet"
    await pool.execute("update worker set ingested_until = now() where id = $1", tracker)
    await advance.advance(pool, Catalogue(pool), CONFIG)

    states = await pool.fetch("select state::text from engagement order by contact_id")
    whys = await pool.fetch("select why from entry order by contact_id")
    assert [row[0] for row in states] == ["cooling", "active"]
    assert [row[0] for row in whys] == ["silent", "done"]


async def test_a_program_with_nothing_left_is_done(pool: Pool) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        await rows.program("finished")
        busy = await rows.program("busy")
        await rows.entry(busy, await rows.contact("ann@reader.test"))

    assert await advance.finish(pool) == 1

    assert await pool.fetchval("select status::text from program where name = 'finished'") == "done"


async def test_a_program_whose_mails_lack_a_value_pauses_itself_past_the_limit(pool: Pool) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await rows.program()
        await conn.execute(
            "update stream_version set definition = jsonb_set(definition, '{policy}',"
            ' \'{"missing_limit": 0.02, "missing_least": 50}\')'
        )
        await rows.tally(program, enrolled=2000, skipped__missing_value__first=49)
        assert await advance.pause_on_content_faults(pool) == 0
        await conn.execute("update tally set key = 'skipped:missing_value:first', n = 50 where key like 'skipped%'")

        assert await advance.pause_on_content_faults(pool) == 1

    row = await pool.fetchrow("select status::text, why from program")
    assert row is not None
    assert tuple(row.values()) == ("paused", "50 mails failed: missing_value:first")
