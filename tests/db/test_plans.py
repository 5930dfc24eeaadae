"""Hot queries keep their plans: the generic plan on 60,000 jobs uses its index and touches few rows."""

from collections.abc import Iterator
from typing import Any

from engine import listening, past
from engine import store as engine
from mtad.base.db import Connection, Pool
from mtad.queue import entries, programs, store

# 60,000 people, jobs and entries over 40 sites, a third of it due later; 1,500 jobs of site 1
# are claimed by worker 1. Everybody's window closes in three days; 20,000 hits on mail that has
# left the queue wait to be judged. The second program has nothing left to do. Planner statistics
# are fresh.
WORLD = """
insert into site (name, hosts) select 's' || n, '{x}' from generate_series(1, 40) n;
insert into domain (name, site_id) select 'd' || n, n from generate_series(1, 40) n;
insert into contact (address, address_key, domain_id, attributes)
  select 'c' || n, 'c' || n, 1 + n % 40, jsonb_build_object('birthday', date '1980-01-01' + n % 365)
    from generate_series(1, 60000) n;
insert into gate (contact_id) select id from contact;
insert into stream (name, version) values ('sales', 1);
insert into stream_version (stream_id, version, definition, made_by) values (1, 1, '{}', 'test');
insert into subscription (stream_id, contact_id, status, basis, source, changed_by)
  select 1, id, 'subscribed', 'consent', 'x', 'x' from contact;
insert into engagement (stream_id, contact_id, since, round_from, wake_at)
  select 1, id, now(), now(), now() + interval '3 d' from contact;
insert into program (name, kind, stream_id, class, status, version) values ('p', 'series', 1, 2, 'running', 1);
insert into program (name, kind, stream_id, class, status, version, enqueued)
  values ('over', 'campaign', 1, 2, 'running', 1, now());
insert into program_version (program_id, version, definition, made_by) select id, 1, '{}', 'test' from program;
insert into message (program_id, version, node, name, parts, pixel) values (1, 1, 'a', 'a', '{}', true);
insert into entry (program_id, version, contact_id, stream_id, node, due)
  select 1, 1, id, 1, 'a', case when id % 100 = 0 then now() - interval '1 s' else now() + interval '1 h' end
    from contact;
insert into job (contact_id, stream_id, program_id, version, message_id, entry_id, site_id, class, prio, due, not_after)
  select c.id, 1, 1, 1, 1, n.id, c.domain_id, 2, 4 + (c.id % 7 = 0)::int,
         now() + case when c.id % 3 = 0 then interval '1 h' else interval '-1 h' end, now() + interval '1 day'
    from contact c join entry n on n.contact_id = c.id;
insert into worker (host, slot, pid) values ('here', 0, 1);
insert into lane (site_id, rate, burst, sessions) select id, 100, 100, 10 from site;
update job set worker = 1 where site_id = 1;
insert into lease (worker, jobs) select 1, array_agg(id) from job where worker = 1;
insert into enrolled (program_id, node, contact_id, job_id) select 1, 'a', contact_id, id from job;
insert into pending (event_id, job_id, kind, link_id, at, method, agent)
  select lpad(to_hex(n), 32, '0')::uuid, 1000000 + n, 'open', 1, now() - interval '3 s', 'GET', 'x'
    from generate_series(1, 20000) n;
vacuum analyze;
"""

IDS, CONTACTS, ENTRIES = "{ids}::bigint[]", "{contacts}::bigint[]", "{entries}::bigint[]"


def many(value: str, number: int = 64) -> str:
    return f"array_fill({value}, array[{number}])"


SETTLED = ", ".join([
    "1", "0", "false", IDS, CONTACTS, ENTRIES, many("'250'::text"), *[many("extract(epoch from now())::float8")] * 2,
    many("1"),
    *["array[1]", "array['delivered']", "array['']", "array[null::text]", "array[1::smallint]", "array['active']"],
    *["array['b']", "array[60::float8]", "array[null::text]", "array['default']", "array['full']"],
])  # fmt: skip

RETURNED = ", ".join([
    "1", "0", IDS, many("60::float8"), many("'later'::text"), many("1::smallint"), many("false"),
    CONTACTS, many("1"),
])  # fmt: skip

PLAIN = ", ".join([
    many("gen_random_uuid()"), IDS, many("'open'::text"), many("1"), many("now()"), many("1"), CONTACTS,
    many("null::bigint"), many("5::smallint"),
    "'{1}'", "'{20}'", "'{2}'", "'{86400}'", "'{259200}'", "now()",
])  # fmt: skip

PAGE = "array[" + ",".join(map(str, range(30001, 35001))) + "]::bigint[]"

# query, arguments, most rows of the big tables that it may touch
HOT = {
    "claim": (store.SQL["claim"], "1, '{}'::int[], '{2}'::int[], 60", 60 * 64 * 2),
    "begin": (
        store.SQL["begin"],
        ", ".join(["1", IDS, CONTACTS, *[many("1")] * 2, "1", many("1"), *["array[1]"] * 2, *["array[true]"] * 2]),
        64 * 3,
    ),
    "settle_ended": (store.SQL["settle_ended"], SETTLED, 64 * 4),
    "settle_returned": (store.SQL["settle_returned"], RETURNED, 64 * 3),
    "release": (store.SQL["release"], f"1, {IDS}", 64 * 3),
    "due_entries": (entries.SQL["due_entries"], "", 2000),
    "move_jobs": (store.SQL["move_jobs"], "5, 5, 6, 0", 5000),
    # Behind half of the audience, which is enrolled already: a page costs what a page costs.
    "audience_page": (programs.SQL["audience_page"], "1, 30000, '{}'::jsonb, 1, 'a', 0, false, null", 5000 + 10),
    # Whose day it is, 164 of 60,000: everybody is looked at once, and nothing of others looked up.
    "a day's audience": (
        programs.SQL["audience_page"],
        "1, 0, '{}'::jsonb, 1, 'a', 0, false, array['birthday 05-12', 'birthday 02-29']", 60_000 + 2 * 165,
    ),
    "fold_plain": (engine.SQL["fold_plain"], PLAIN, 64),
    "swept_streams": (engine.SQL["swept_streams"], "now()", 1),
    "heard": (past.SQL["heard"], "", 1),
    "finish_programs": (programs.SQL["finish_programs"], "", 1),
    "recall_page": (listening.SQL["recall_page"], "1, 'gmail', '-infinity', 30000", 5000),
    # Behind all that was written so far.
    "newly_eligible": (
        programs.SQL["newly_eligible"],
        "1, 1, '{}'::jsonb, 'a', now(), 0, true, now() + interval '1 h', '{1}'::int[], true, '{}'::bigint[]",
        10,
    ),
    "enqueue": (
        programs.SQL["enqueue"],
        f"{PAGE}, {many('1', 5000)}, 1, 1, 1, 1, 'a', 2::int2, now(), now(), 0::int2, null, 0, 0, null, 12, null",
        5000 + 10,
    ),
}  # fmt: skip

# Versions of jobs that this transaction wrote, and those of them that no index heard of.
WRITTEN = """
select pg_stat_get_xact_tuples_updated(t), pg_stat_get_xact_tuples_hot_updated(t) from cast('job'::regclass as oid) t
"""

BIG = {"job", "contact", "gate", "entry", "engagement", "subscription", "enrolled", "pending"}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def read(node: dict[str, Any]) -> str:
    """The table that a node reads, itself or, of a bitmap, an index of it."""
    return str(node.get("Relation Name") or node.get("Index Name", "").partition("_")[0])


async def make_world(conn: Connection) -> None:
    for statement in filter(None, WORLD.strip().split(";\n")):  # VACUUM goes alone
        await conn.execute(statement)


async def generic_plan(conn: Connection, sql: str, arguments: str) -> dict[str, Any]:
    """What the generic plan did; the transaction is rolled back."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        await conn.execute(f"prepare hot as {sql}")
        call = f"hot({arguments})" if arguments else "hot"
        (row,) = await conn.fetch(f"explain (analyze, format json) execute {call}")
    finally:
        await transaction.rollback()
        await conn.execute("deallocate hot")
    found: dict[str, Any] = row[0][0]["Plan"]
    return found


async def test_hot_queries_use_their_indexes_and_touch_few_rows(pool: Pool) -> None:
    async with pool.acquire() as conn:
        await make_world(conn)
        columns = await conn.fetch("select id, contact_id, entry_id from job where worker = 1 order by id limit 64")
        ids, contacts, entries = ("array[" + ",".join(map(str, column)) + "]" for column in zip(*columns, strict=True))
        for name, (sql, arguments, most) in HOT.items():
            given = arguments.replace("{ids}", ids).replace("{contacts}", contacts).replace("{entries}", entries)
            plan = list(nodes(await generic_plan(conn, sql, given)))

            big = [node for node in plan if read(node) in BIG]
            scanned = [read(node) for node in big if node["Node Type"] == "Seq Scan"]
            assert not scanned, f"{name} reads all of {scanned}"
            for table in BIG:
                touched = [n["Actual Rows"] * n["Actual Loops"] for n in big if read(n) == table]
                assert max(touched, default=0) <= most, f"{name} touches {max(touched)} rows of {table}"
            if name == "claim":
                due = [node for node in plan if node.get("Index Name") == "job_due_idx"]
                assert due, "claim does not use job_due_idx"
                assert all(node["Actual Rows"] <= 64 for node in due)
                assert all("<" in node["Index Cond"] for node in due), "a scan with one bound reads a whole page"
                assert any(node.get("Index Name") == "job_urgent_idx" for node in plan)


async def test_a_claim_reads_no_more_of_a_site_than_it_takes_whatever_is_known_of_who_holds_jobs(pool: Pool) -> None:
    async with pool.acquire() as conn:
        await make_world(conn)
        # As enqueueing leaves them: packed, of four sites, and it analyzes other columns.
        await conn.execute("update job set site_id = 1 + site_id % 4, prio = 4, due = now() - interval '1 h'")
        await conn.execute("vacuum full job")
        await conn.execute("delete from pg_statistic where starelid = 'job'::regclass")
        await conn.execute(programs.SQL["analyze_queue"])
        plan = list(nodes(await generic_plan(conn, *HOT["claim"][:2])))

    assert max(node["Actual Rows"] for node in plan if node.get("Index Name") == "job_due_idx") <= 64


async def test_a_claim_writes_to_no_index_of_the_queue_and_its_plan_without_one_is_found_out(pool: Pool) -> None:
    async with pool.acquire() as conn:
        await make_world(conn)
        async with conn.transaction():
            before = await conn.fetchrow(WRITTEN)
            claimed = await store.claim(conn, 1, full=[2])
            after = await conn.fetchrow(WRITTEN)
        await conn.execute("drop index job_due_idx")
        plan = list(nodes(await generic_plan(conn, *HOT["claim"][:2])))

    assert before is not None
    assert after is not None
    assert [after[n] - before[n] for n in range(2)] == [len(claimed)] * 2
    assert any(node["Node Type"] == "Seq Scan" and node["Relation Name"] == "job" for node in plan)
