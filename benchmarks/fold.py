"""``python -m benchmarks.fold``: events a second through the fold, and what a sweep of a million contacts reads.

The fold gets what ripening hands it: of all hits, which --seed draws, half are first opens, a
tenth clicks, a quarter repetitions, 15 % a machine's (those never come to the fold); 1 % are
late, so that their contact is replayed, and 5 % of the contacts are close to the threshold.
Of the contacts 1 % is due for the sweep.
"""

import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec

from benchmarks.backlog import serving, version_of
from benchmarks.entry import command_line, finish, machine
from benchmarks.run import say
from engine.service import fold_signs, sweep
from engine.store import Taken
from mtad.base.db import Connection, Pool, in_transaction, open_pool
from mtad.base.ids import uuid7
from mtad.base.migrate import migrate
from tracker.service import RIPE_BATCH

MOST_CONTACTS = 5_000_000

_KINDS = ("open", "click", "again", "machine")
_SHARES = (50, 10, 25, 15)
_LATE = 0.01

_STATEMENTS = (
    "insert into domain (name) values ('example.net')",
    "insert into stream (name, version) values ('news', 1)",
    (
        "insert into stream_version (stream_id, version, definition, made_by)"
        """ values (1, 1, '{"name": "news", "from": "a@example.net", "tracking": "full", "policy": {}}', 'benchmark')"""
    ),
    "insert into program (name, kind, stream_id, class, status, version) values ('news', 'campaign', 1, 2, 'done', 1)",
    "insert into program_version (program_id, version, definition, made_by) values (1, 1, '{}', 'benchmark')",
    "insert into message (program_id, version, node, name, parts, pixel) values (1, 1, 'news', 'news', '{}', true)",
    "insert into message_link (message_id, position, url) values (1, 0, ''), (1, 1, 'https://example.net/')",
    (
        "insert into worker (host, slot, pid, started, ingested_until)"
        " values ('here', 0, 1, now() - interval '300 d', 'infinity')"
    ),
    "insert into contact (address, address_key, domain_id) select n, n, 1 from generate_series(1, {contacts}) n",
    "insert into gate (contact_id) select id from contact",
    (
        "insert into subscription (stream_id, contact_id, status, basis, source, changed_by)"
        " select 1, id, 'subscribed', 'consent', 'benchmark', 'import' from contact"
    ),
    # Mailed a day ago: the windows are open. One in twenty needs one open more.
    (
        "insert into engagement (stream_id, contact_id, since, round_from, first_sent, window_until, wake_at, told,"
        " score) select 1, id, t, t, t, t + interval '3 d', t + interval '3 d', t,"
        " case when id % 20 = 0 then 15 else 0 end"
        " from contact, (select now() - interval '1 d' as t) x"
    ),
    (
        "insert into ledger (job_id, program_id, stream_id, message_id, contact_id, outcome, reason, attempts, doubts,"
        " created, dot_at, ended) select id, 1, 1, 1, id, 'delivered', '', 1, 0, t, t, t"
        " from contact, (select now() - interval '1 d' as t) x"
    ),
    "vacuum analyze contact, gate, subscription, engagement, ledger",
    "checkpoint",
)


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    contacts: int
    events: int
    seed: int
    limit: float
    json: Path | None


class Swept(msgspec.Struct, frozen=True):
    """One sweep. `read`: rows of engagement that it read to find them, per row that was due."""

    due: int
    read: float
    all_reads: float  # with those that it wrote, found once more by their key
    seconds: float


class Report(msgspec.Struct, frozen=True):
    """What --json writes. Rates count all hits, with the machines' that never come to the fold."""

    contacts: int
    events: int
    per_second: float
    client_us: float  # CPU of one event
    postgres_us: float
    late: int
    engaged: int
    sweep: Swept
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print two lines, write the JSON."""
    plan = _plan()
    finish("fold", measure(plan), limit=plan.limit, json=plan.json, line=_line, good=lambda _: True)


def _plan() -> Plan:
    parser = command_line("fold", __doc__, limit=900)
    parser.add_argument("--contacts", type=int, default=1_000_000, help=f"at most {MOST_CONTACTS:,}")
    parser.add_argument("--events", type=int, default=100_000, help="hits, with those of machines")
    found = parser.parse_args()
    if not 1000 <= found.contacts <= MOST_CONTACTS:
        parser.error(f"--contacts: 1,000 to {MOST_CONTACTS:,}, is {found.contacts}")
    if not 100 <= found.events <= 10 * found.contacts:
        parser.error("--events: 100 to ten for each contact")
    return Plan(**vars(found))


async def measure(plan: Plan) -> Report:
    """Fill, fold, sweep."""
    with serving() as server:
        pool = await open_pool(server.url, most=2)
        try:
            say(f"filling {plan.contacts:,} contacts")
            await migrate(pool)
            async with pool.acquire() as conn:
                await conn.execute("set statement_timeout = 0")
                for statement in _STATEMENTS:
                    await conn.execute(statement.replace("{contacts}", str(plan.contacts)), timeout=plan.limit)
            batches = list(_batches(plan, datetime.now(UTC)))
            folded, spent = sum(map(len, batches)), await _fold(pool, batches)
            wall, client, postgres = spent
            swept = await _sweep(pool, plan.contacts // 100)
            late = await pool.fetchval("select count(*) from engagement where last_sign < now() - interval '2 h'")
            engaged = await pool.fetchval("select count(*) from engagement where state = 'engaged'")
        finally:
            await pool.close()
        version = await version_of(server)
    say(f"{folded:,} of {plan.events:,} hits came to the fold")
    return Report(
        contacts=plan.contacts,
        events=plan.events,
        per_second=round(plan.events / wall, 1),
        client_us=round(client / plan.events * 1e6, 2),
        postgres_us=round(postgres / plan.events * 1e6, 2),
        late=late,
        engaged=engaged,
        sweep=swept,
        command=sys.argv[1:],
        machine=machine(version),
    )


def _batches(plan: Plan, now: datetime) -> Iterator[list[Taken]]:
    """People's hits in the order of their receipt; a repetition is one of an earlier hit."""
    luck = random.Random(plan.seed)
    batch: list[Taken] = []
    seen: list[Taken] = []
    fresh = iter(luck.sample(range(1, plan.contacts + 1), min(plan.contacts, plan.events)))
    for number in range(plan.events):
        kind = luck.choices(_KINDS, _SHARES)[0]
        if kind == "machine":
            continue
        at = now - timedelta(hours=1) + timedelta(milliseconds=number / 10)
        if luck.random() < _LATE and seen:
            at -= timedelta(hours=3)
        first = luck.choice(seen) if seen and kind != "open" else None
        job = first.job_id if first else next(fresh)
        what = first.kind if first and kind == "again" else "click" if kind == "click" else "open"
        hit = Taken(_event_id(at, number), job, what, 1 if what == "open" else 2, at, 1, job, None)
        seen.append(hit)
        batch.append(hit)
        if len(batch) == RIPE_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _event_id(at: datetime, number: int) -> UUID:
    return uuid7(int(at.timestamp() * 1000), number.to_bytes(10))


async def _fold(pool: Pool, batches: Sequence[Sequence[Taken]]) -> tuple[float, float, float]:
    """Seconds of wall clock, of our CPU, of the backends' CPU."""
    async with pool.acquire() as conn:
        pids = [await conn.fetchval("select pg_backend_pid()")]
    wall, client, postgres = time.perf_counter(), time.process_time(), _cpu_of(pids)
    for batch in batches:
        await in_transaction(pool, lambda conn, batch=batch: fold_signs(conn, batch))  # type: ignore[misc]
    return time.perf_counter() - wall, time.process_time() - client, _cpu_of(pids) - postgres


def _cpu_of(pids: Sequence[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def _sweep(pool: Pool, due: int) -> Swept:
    """Have 1 % of the contacts due, and sweep."""
    async with pool.acquire() as conn:
        await conn.execute(
            "update engagement set window_until = now() - interval '1 h', wake_at = now() - interval '1 h'"
            " where contact_id in (select contact_id from engagement where window_until is not null"
            " order by contact_id limit $1)",
            due,
        )
        await conn.execute("vacuum analyze engagement", timeout=600)
        before = await _read(conn)
    began = time.perf_counter()
    moved = await sweep(pool)
    seconds = time.perf_counter() - began
    async with pool.acquire() as conn:
        after = await _read(conn)
    reads = (after - before) / moved
    return Swept(moved, round(reads - 1, 3), round(reads, 3), round(seconds, 3))


async def _read(conn: Connection) -> int:
    """Rows of engagement that were read so far, by an index or without one."""
    await conn.execute("select pg_stat_force_next_flush()")
    return int(
        await conn.fetchval("select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'engagement'")
    )


def _line(report: Report) -> str:
    one = report.sweep
    return (
        f"{report.per_second:,.0f} events/s ({report.client_us} µs of ours, {report.postgres_us} of Postgres each),"
        f" {report.engaged:,} became Engaged\n"
        f"sweep of {one.due:,} among {report.contacts:,}: {one.read} rows read for each, {one.seconds} s"
    )


if __name__ == "__main__":
    main()
