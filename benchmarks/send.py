"""``python -m benchmarks.send``: a campaign from the CSV file to the last settled row, everything on disk.

The sink and Postgres share the cores with mtad, as on a small server. What each figure
means, and on which machine it was taken: benchmarks/README.md.
"""

import asyncio
import os
import random
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec

from benchmarks import gauges
from benchmarks.entry import command_line, finish, machine
from benchmarks.mailing import CAMPAIGN, write_campaign, write_people
from benchmarks.place import Place, installed
from benchmarks.run import import_people, say, send_all, timed
from benchmarks.sinks import Receiver, loopback, receiving, smtp_sink_program
from mtad.base.errors import Problem
from mtad.lab.verify import Verifier, verify_all
from mtad.ops.install import KEYS

MOST_CONTACTS = 1_000_000
MOST_PORTS = 20  # processes of the sink; with more domains each has a site of its own, and many a port
MOST_VERIFIED = 1000

_LEDGER = """
select count(*) filter (where outcome = 'delivered') as delivered, coalesce(sum(doubts), 0)::bigint as doubts,
       min(begun) as first, max(ended) as last
from ledger
"""
_STATEMENTS = """
select left(regexp_replace(query, '\\s+', ' ', 'g'), 120) as query, calls, total_exec_time as ms, rows,
       wal_bytes::bigint
from pg_stat_statements where dbid = (select oid from pg_database where datname = current_database())
order by total_exec_time desc limit 12
"""


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    contacts: int
    size: int
    dkim: str
    workers: int
    sink: str
    domains: int
    sessions: int
    verify: bool
    seed: int
    limit: float
    rsa_seconds: int
    statements: bool
    json: Path | None


class Statement(msgspec.Struct, frozen=True):
    """A row of pg_stat_statements; `ms` is the time of all calls."""

    query: str
    calls: int
    ms: float
    rows: int
    wal_bytes: int


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What --json writes. benchmarks/README.md says how each figure is taken."""

    messages: int
    seconds: float
    rate: float
    rsa_limit: float
    ratio: float
    cpu_us_per_message: Mapping[str, float | None]
    rss_mb_peak: float
    wal_bytes_per_message: float
    begin_to_data_ms: Mapping[str, float]
    lost: int
    duplicates: int
    import_seconds: float
    enqueue_seconds: float
    message_bytes: int
    sites: int
    load_before: float
    command: list[str]
    machine: Mapping[str, str | int]
    verified: int | None = None
    statements: list[Statement] | None = None


def main() -> None:
    """Run, print a line, write the JSON. A Problem is one line and its exit code."""
    plan = _plan()
    finish(
        "send",
        measure(plan),
        limit=plan.limit,
        json=plan.json,
        line=lambda report: (
            f"{report.messages:,} messages in {report.seconds:.1f} s: {report.rate:,.0f} a second, "
            f"{report.ratio:.2f} of the RSA limit; lost {report.lost}, duplicates {report.duplicates}"
        ),
        good=lambda report: not (report.lost or report.duplicates),
    )


def _plan() -> Plan:
    parser = command_line("send", __doc__, limit=600)
    parser.add_argument("--contacts", type=int, default=20_000, help=f"recipients, at most {MOST_CONTACTS:,}")
    parser.add_argument("--size", type=int, default=15_000, help="bytes of a message, about")
    parser.add_argument("--dkim", choices=(*KEYS, "none"), default="rsa2048", help="keys that sign")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sink", default="smtp-sink", help="smtp-sink, lab, or HOST:PORT on loopback")
    parser.add_argument("--domains", type=int, choices=(1, 20, 20_000), default=1, help="of the recipients, by Zipf")
    parser.add_argument("--sessions", type=int, default=100, help="connections to one site, over all workers")
    parser.add_argument("--verify", action="store_true", help=f"check up to {MOST_VERIFIED:,} messages of the lab sink")
    parser.add_argument("--rsa-seconds", type=int, default=3, help="of openssl speed")
    parser.add_argument("--statements", action="store_true", help="add the dearest rows of pg_stat_statements")
    found = parser.parse_args()
    if not 1 <= found.contacts <= MOST_CONTACTS:
        parser.error(f"--contacts: 1 to {MOST_CONTACTS:,}, is {found.contacts}")
    if min(found.workers, found.sessions, found.rsa_seconds) < 1:
        parser.error("--workers, --sessions, --rsa-seconds: at least 1")
    if found.verify and (found.sink != "lab" or found.dkim == "none"):
        parser.error("--verify: needs --sink lab, which keeps the messages, and keys that sign")
    return Plan(**vars(found))


def _routes(plan: Plan, domains: Sequence[str], ports: Sequence[tuple[str, int]]) -> list[tuple[str, tuple[str, int]]]:
    """Each domain to a port of the sink. Where there are more, the routes are for nobody: they allow these ports.

    A route for the recipients themselves would take them from the sites of their own that `spread` gives them.
    """
    if plan.domains > MOST_PORTS:
        return [(f"port{number}.example.net", port) for number, port in enumerate(ports)]
    return [*zip(domains[1:], ports[1:], strict=True), ("*", ports[0])]


async def measure(plan: Plan) -> Report:
    """One run from an empty folder; Problem when it cannot be finished."""
    if plan.sink == "smtp-sink":
        smtp_sink_program()  # before a minute is spent on the rest
    elif plan.sink != "lab":
        loopback(plan.sink)
    load_before = os.getloadavg()[0]
    before = await _rsa_limit(plan)
    draw = random.Random(plan.seed)
    domains = [f"d{number}.example.net" for number in range(plan.domains)]
    async with (
        receiving(plan.sink, min(plan.domains, MOST_PORTS)) as receiver,
        installed(
            plan.workers, statements=plan.statements, dkim="rsa2048" if plan.dkim == "none" else plan.dkim
        ) as place,
        place.connected() as pool,
    ):
        place.configure(_routes(plan, domains, receiver.addresses), sessions=plan.sessions)
        people = place.folder / "people.csv"
        write_people(people, plan.contacts, domains, draw)
        say(f"importing {plan.contacts:,} contacts")
        import_seconds, message_bytes = await import_people(
            place, people, write_campaign(place.folder, plan.size, draw)
        )
        if plan.domains > MOST_PORTS:
            await place.spread(pool, receiver.addresses)
        else:
            await place.resolve(pool)
        if plan.statements:
            await pool.execute("create extension pg_stat_statements")
        enqueue_seconds = await timed(place, "program", "start", CAMPAIGN)
        used = await send_all(place, pool, receiver, plan.contacts, signed=plan.dkim != "none")
        ledger = await pool.fetchrow(_LEDGER)
        assert ledger is not None
        statements = [Statement(*row.values()) for row in await pool.fetch(_STATEMENTS)] if plan.statements else None
        adds_up = (await place.installation.command("audit", CAMPAIGN))["adds_up"]
        sites = await pool.fetchval("select count(distinct site_id) from ledger")
        verified = await _verified(plan, place, receiver) if plan.verify else None
        version = await pool.fetchval("show server_version")
        await place.stop()
    # A machine that is shared with others is not as fast after a run as it was before.
    limit = (before + await _rsa_limit(plan)) / 2
    if not adds_up:
        raise Problem("the audit does not add up")
    seconds = (ledger["last"] - ledger["first"]) / timedelta(seconds=1)
    lost, duplicates = plan.contacts - ledger["delivered"], ledger["doubts"]
    if receiver.lab is not None:
        copies = receiver.lab.copies()
        lost = max(lost, plan.contacts - len({recipient for recipient, _ in copies}))
        duplicates = sum(copies.values()) - len(copies)
    cumulative = gauges.buckets(used.pages, "mtad_begin_to_data_seconds")
    rate = ledger["delivered"] / seconds
    return Report(
        messages=ledger["delivered"],
        seconds=round(seconds, 3),
        rate=round(rate, 1),
        rsa_limit=round(limit, 1),
        ratio=round(rate / limit, 3),
        cpu_us_per_message={
            name: None if cpu is None else round(cpu / plan.contacts * 1e6, 1) for name, cpu in used.cpu.items()
        },
        rss_mb_peak=round(used.rss_mb_peak, 1),
        wal_bytes_per_message=round(used.wal_bytes / plan.contacts, 1),
        begin_to_data_ms={
            f"p{round(share * 100)}": round(gauges.quantile(cumulative, share) * 1000, 2) for share in (0.5, 0.99)
        },
        lost=lost,
        duplicates=duplicates,
        import_seconds=round(import_seconds, 2),
        enqueue_seconds=round(enqueue_seconds, 2),
        message_bytes=message_bytes,
        sites=sites,
        load_before=round(load_before, 2),
        command=sys.argv[1:],
        machine=machine(version),
        verified=verified,
        statements=statements,
    )


async def _rsa_limit(plan: Plan) -> float:
    say("measuring RSA-2048 signatures a second")
    return await asyncio.to_thread(gauges.rsa_limit, plan.rsa_seconds)


async def _verified(plan: Plan, place: Place, receiver: Receiver) -> int:
    """How many of the sampled messages verify, all of them; Problem names the first that does not."""
    assert receiver.lab is not None
    stored = [copy.message for copy in receiver.lab.messages]
    sample = random.Random(plan.seed).sample(stored, min(MOST_VERIFIED, len(stored)))
    say(f"verifying {len(sample):,} messages")
    verdicts = await verify_all(Verifier.from_config(place.installation.config), sample)
    if bad := [verdict.why for verdict in verdicts if not verdict.signed or not verdict.one_click]:
        raise Problem(f"--verify: {len(bad):,} of {len(verdicts):,} messages: {bad[0]}")
    return len(verdicts)


if __name__ == "__main__":
    main()
