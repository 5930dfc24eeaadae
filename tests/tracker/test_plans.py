"""The plans that the tracker's statements must keep, on 50,000 rows and as generic plans."""

import re
from collections.abc import Mapping
from datetime import timedelta

from engine.past import SQL as REPLAY
from mtad.base.db import Pool
from tests.tracker.made import NOON, World
from tracker.modes import SQL as MODES
from tracker.occurrences import SQL as INTAKE
from tracker.store import SQL

SEED = """
insert into ledger (job_id, program_id, stream_id, message_id, contact_id, outcome, reason, attempts, doubts,
                    created, dot_at, ended)
select n, $1, $2, $3, n, 'delivered', '', 1, 0, $4::timestamptz, $4::timestamptz, $4::timestamptz
  from generate_series(1, 50000) n
"""
EVENTS = """
insert into event (id, kind, at, contact_id, stream_id, job_id)
select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'click', $1::timestamptz, n, 1, n
  from generate_series(1, 50000) n
"""
PENDING = """
insert into pending (event_id, job_id, kind, link_id, at, method, agent)
select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, n, 'click', 1, $1::timestamptz, 'GET', ''
  from generate_series(1, 50000) n
"""
FIRST = "'00000000-0000-0000-0000-000000000000'"
LAST = "'ffffffff-ffff-ffff-ffff-ffffffffffff'"
MESSAGES = """
insert into message (program_id, version, node, name, parts, pixel)
select $1, 2, n, 'm', '{}', true from generate_series(1, 4000) n
"""


async def plan(pool: Pool, name: str, arguments: str, of: Mapping[str, str] = SQL) -> str:
    """The generic plan of a named query; `arguments` only have to fit."""
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(f"prepare it as {of[name]}")
        found = await conn.fetch(f"explain execute it{f'({arguments})' * bool(arguments)}")
        await conn.execute("deallocate it")
        return "\n".join(row[0] for row in found)


async def filled(pool: Pool) -> World:
    world = await World(pool).seed()
    await pool.execute(SEED, world.program, world.stream, world.message, NOON)
    await pool.execute(EVENTS, NOON + timedelta(minutes=1))
    await pool.execute(PENDING, NOON + timedelta(minutes=1))
    await pool.execute(MESSAGES, world.program)
    await pool.execute(
        "insert into message_link (message_id, position, url) select id, n, '' from message, generate_series(10, 19) n"
    )
    await pool.execute("analyze")
    return world


async def test_no_statement_reads_a_big_table_as_a_whole(pool: Pool) -> None:
    await filled(pool)
    plans = {
        "ingest": await plan(pool, "ingest", ", ".join(["'{}'"] * 8)),
        "ingest_decided": await plan(pool, "ingest_decided", ", ".join(["'{}'"] * 12)),
        "settled_hits": await plan(pool, "settled_hits", FIRST),
        "unjudged_hits": await plan(pool, "unjudged_hits", "'{}'"),
        "mails_hit": await plan(pool, "mails_hit", "'{}'"),
        "evidence": await plan(pool, "evidence", f"'{{}}', '{{}}', '{{}}', '{{}}', '{{}}', {FIRST}, {LAST}"),
        "write_verdicts": await plan(pool, "write_verdicts", ", ".join(["'{}'"] * 6)),
        "judged_hits": await plan(pool, "judged_hits", f"{FIRST}, {LAST}"),
        "void_visits": await plan(pool, "void_visits", "'{}'"),
        "change_verdicts": await plan(pool, "change_verdicts", "'{}', '{}', '{}'"),
        "contacts_of": await plan(pool, "contacts_of", "'{}', '{}'", INTAKE),
        "visited_mails": await plan(pool, "visited_mails", "'{}'", INTAKE),
        "add_occurrences": await plan(pool, "add_occurrences", ", ".join(["'{}'"] * 5), INTAKE),
        "take_visits": await plan(pool, "take_visits", "", INTAKE),
        "clicks_behind": await plan(pool, "clicks_behind", f"'{{}}', '{{}}', '{{}}', {FIRST}, {LAST}", INTAKE),
        "views_follow": await plan(pool, "views_follow", "'{}'", INTAKE),
        "free_of": await plan(pool, "free_of", "'{}', '{}', '{}'", REPLAY),
        "count_hits": await plan(pool, "count_hits", ", ".join(["'{}'"] * 5), MODES),
        "known_events": await plan(pool, "known_events", "'{}'"),
        "links": await plan(pool, "links", "0, '{}', 20000"),
    }

    tables = await pool.fetch("select relname from pg_class where reltuples >= 30000 and relkind = 'r'")
    big = [row[0] for row in tables]
    assert len(big) == 4
    scans = {name: re.findall(rf"Seq Scan on (?:{'|'.join(big)})", text) for name, text in plans.items()}
    assert {name: found for name, found in scans.items() if found} == {}
    assert re.search(r"event_\d+_\d+_contact_id_at_idx", plans["evidence"])
    assert "message_link_pkey" in plans["links"]


async def test_the_queue_is_not_read_for_what_is_in_the_ledger(pool: Pool) -> None:
    """A plan of a moment when the queue was empty is kept, and would read all of a full one for each hit."""
    await pool.execute("vacuum analyze job")
    plans = [await plan(pool, "ingest_decided", ", ".join(["'{}'"] * 12)), await plan(pool, "mails_hit", "'{}'")]

    for text in plans:
        assert re.search(r"One-Time Filter: \(\S*job_id IS NULL\)\n\s+-> .* on job", text), text
