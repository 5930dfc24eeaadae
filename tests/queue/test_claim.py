"""What is due is claimed once, in its order, with the facts of its moment; and comes back."""

from datetime import UTC, datetime, timedelta

from mtad.queue import store
from mtad.queue.store import Released, Returned
from tests.queue.world import World


async def test_a_job_is_claimed_by_one_worker_only(world: World) -> None:
    jobs = {await world.job(f"c{n}@reader.test") for n in range(5)}
    one, two = await world.worker(0), await world.worker(1)

    first = await world.claim(one)
    second = await world.claim(two)

    assert {facts.job_id for facts in first} == jobs
    assert second == []


async def test_two_claims_at_once_share_nothing_and_wait_for_nobody(world: World) -> None:
    for n in range(5):
        await world.job(f"c{n}@reader.test")
    one, two = await world.worker(0), await world.worker(1)

    async with world.pool.acquire() as other, other.transaction():
        first = await store.claim(other, one, [])
        second = await store.claim(world.rows.conn, two, [])

    assert len(first) == 5
    assert second == []


async def test_transactional_mail_is_claimed_before_bulk_and_first_attempts_before_retries(world: World) -> None:
    retry = await world.job("a@reader.test", prio=5, attempt=1)
    bulk = await world.job("b@reader.test", prio=4)
    urgent = await world.job("c@reader.test", prio=0)

    claimed = await world.claim(await world.worker())

    assert [facts.job_id for facts in claimed] == [urgent, bulk, retry]


async def test_a_claim_brings_the_facts_of_its_own_moment(world: World) -> None:
    job = await world.job("Ann@reader.test", entry=True)
    contact = world.contacts[job]
    conn = world.rows.conn
    await conn.execute('update contact set attributes = \'{"first": "Ann"}\' where id = $1', contact)
    await conn.execute("insert into suppression (key, scope, reason, source) values"
                       " ('ann@reader.test', 'marketing', 'complained', 'arf')")  # fmt: skip
    await world.rows.engagement(world.program, contact, "engaged", 20)

    (facts,) = await world.claim(await world.worker())

    assert facts.address == "Ann@reader.test"
    assert facts.attributes == {"first": "Ann"}
    assert facts.subscription == "subscribed"
    assert (facts.suppressed_all, facts.suppressed_marketing) == (None, "complained")
    assert facts.state == "engaged"
    assert facts.node == "nudge-1"
    assert not facts.entry_ended
    assert facts.program_status == "running"


async def test_the_hint_of_a_site_moves_to_what_is_due_next(world: World) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    await world.job("a@reader.test")
    await world.job("b@reader.test", due=later)

    await world.claim(await world.worker())

    assert await world.pool.fetchval("select ready_at from site") == later


async def test_prios_before_and_behind_the_one_that_was_claimed_from_last_are_found(world: World) -> None:
    last = await world.job("a@reader.test", prio=6)
    worker = await world.worker()
    assert [facts.job_id for facts in await world.claim(worker)] == [last]
    jobs = [await world.job(f"p{prio}@reader.test", prio=prio) for prio in (2, 3, 4, 6, 9, 21)]
    await world.job("later@reader.test", prio=5, due=datetime.now(UTC) + timedelta(hours=1))
    await store.wake_sites(world.rows.conn, [world.site])

    assert [facts.job_id for facts in await store.claim(world.rows.conn, worker)] == jobs


async def test_a_hint_of_what_is_due_later_than_in_an_hour_comes_in_time(world: World) -> None:
    conn = world.rows.conn
    await world.job("a@reader.test")
    later = await world.job("b@reader.test", due=datetime.now(UTC) + timedelta(hours=2))
    await world.claim(await world.worker())
    await store.refresh_hints(conn)
    assert await conn.fetchval("select ready_at = 'infinity' from site")

    at = await conn.fetchval("update job set due = now() + interval '59 min' where id = $1 returning due", later)
    await store.refresh_hints(conn)

    assert await conn.fetchval("select ready_at from site") == at


async def test_a_lost_hint_is_found_again_in_the_due_index(world: World) -> None:
    await world.job()
    await world.pool.execute("update site set ready_at = 'infinity'")

    await store.refresh_hints(world.rows.conn)

    assert await world.pool.fetchval("select ready_at <= now() from site")


async def test_of_a_full_site_transactional_mail_alone_is_claimed_and_of_a_shut_one_nothing(world: World) -> None:
    await world.job("bulk@reader.test")
    urgent = await world.job("urgent@reader.test", prio=0)
    worker = await world.worker()

    assert await world.claim(worker, shut=[world.site]) == []
    assert [facts.job_id for facts in await world.claim(worker, full=[world.site])] == [urgent]


async def test_transactional_mail_stands_in_no_line_of_sites_but_waits_for_a_closed_lane(world: World) -> None:
    conn = world.rows.conn
    sites = await store.sites_by_name(conn, {f"mx{n}.test": ["0 mx.test:25"] for n in range(2)})
    open_site, closed_site = sites.values()
    await world.job("bulk@reader.test")
    urgent = await world.job("urgent@reader.test", prio=0, site_id=open_site)
    await world.job("late@reader.test", prio=0, site_id=closed_site)
    await conn.execute("update site set ready_at = now() + interval '1 h' where id = $1", closed_site)

    claimed = await store.claim(conn, await world.worker(), sites=0)

    assert [facts.job_id for facts in claimed] == [urgent]


async def test_what_a_dead_worker_had_begun_is_in_doubt_and_the_rest_is_due_as_before(world: World) -> None:
    begun, claimed = await world.job("a@reader.test"), await world.job("b@reader.test")
    worker = await world.worker()
    facts = await world.claim(worker)
    await store.begin(world.rows.conn, worker, world.offers(facts[:1]))
    assert await store.end_leases(world.rows.conn) == 0

    await store.bury(world.rows.conn, [worker], [1, 2, 3600])
    assert await store.end_leases(world.rows.conn) == 1

    rows = await world.pool.fetch(
        "select id, doubts, attempt, due > now() + interval '59 min', worker from job order by id"
    )
    assert [tuple(row.values()) for row in rows] == [(begun, 1, 1, True, None), (claimed, 0, 0, False, None)]


async def test_a_deferred_mail_comes_back_at_its_time_behind_first_attempts(world: World) -> None:
    await world.job()
    worker = await world.worker()
    (facts,) = await world.claim(worker)

    await store.settle_returned(world.rows.conn, worker, 0, [Returned(facts, 60, "451 later", 1)])

    row = await world.pool.fetchrow("select worker, prio, attempt, due > now() + interval '59 s', reason from job")
    assert row is not None
    assert tuple(row.values()) == (None, 5, 1, True, "451 later")


async def test_mail_that_comes_to_stand_before_what_was_claimed_is_found_by_the_sweep(world: World) -> None:
    claimed = await world.job("a@reader.test")
    worker = await world.worker()
    assert [facts.job_id for facts in await world.claim(worker)] == [claimed]
    earlier = await world.job("b@reader.test", due=datetime.now(UTC) - timedelta(days=300))

    await store.refresh_hints(world.rows.conn)

    assert [facts.job_id for facts in await store.claim(world.rows.conn, worker)] == [earlier]


async def test_a_released_mail_is_as_it_was(world: World) -> None:
    job = await world.job()
    worker = await world.worker()
    (facts,) = await world.claim(worker)
    await store.begin(world.rows.conn, worker, world.offers([facts]))

    assert await store.release(world.rows.conn, worker, [Released(facts)]) == {job}

    row = await world.pool.fetchrow("select worker, begun, attempt, doubts from job")
    assert row is not None
    assert tuple(row.values()) == (None, None, 0, 0)
    assert [facts.job_id for facts in await world.claim(worker)] == [job]


async def test_a_mail_in_doubt_that_a_person_has_read_or_confirmed_is_claimed_with_the_proof(world: World) -> None:
    read = await world.job("a@reader.test", doubts=1, attempt=1, due=datetime.now(UTC) + timedelta(hours=1))
    await world.job("b@reader.test", doubts=1, attempt=1, due=datetime.now(UTC) + timedelta(hours=1))
    confirmed = await world.job("c@reader.test", doubts=1, attempt=1)
    at = datetime.now(UTC)
    await world.pool.execute(
        "insert into proof (job_id, contact_id, stream_id, form_id, form_version, address, page, consent, asked,"
        " asked_agent, message_id, due, confirmed) values ($1, 1, 1, 1, 1, '', '', '', $2, '', '', $2, $2)",
        confirmed, at,
    )  # fmt: skip
    await world.pool.execute(
        "insert into pending (event_id, job_id, kind, link_id, at, method, agent, class)"
        " values (gen_random_uuid(), $1, 'open', $2, $3, 'GET', 'Firefox', 'human')",
        read, world.program.pixels[0], at,
    )  # fmt: skip

    assert await store.wake_proven(world.rows.conn) == 1

    found = await world.claim(await world.worker())
    assert {(facts.job_id, facts.proven) for facts in found} == {(read, at), (confirmed, at)}
