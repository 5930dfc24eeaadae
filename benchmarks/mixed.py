"""``python -m benchmarks.mixed``: a campaign while people open its predecessor and transactional mail comes in between.

The campaign is sent twice: alone, and with hits at a fixed rate and transactional mails
to the same sites. Does bulk starve those, and what do they cost bulk?
"""

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec

from benchmarks import gauges
from benchmarks.budget import Accounts
from benchmarks.entry import command_line, finish, machine
from benchmarks.hits import hit_paths, hitting, noted, outcome_of, until_ingested, until_it_answers, write_paths
from benchmarks.mailing import CAMPAIGN, STREAM, write_campaign, write_people
from benchmarks.openloop import Outcome, quantile
from benchmarks.phases import Phase, send_through, sent
from benchmarks.place import Place, installed
from benchmarks.receipts import PROGRAM, Receipts, set_up
from benchmarks.run import import_people, say
from benchmarks.sinks import receiving
from mtad.base.db import Pool
from mtad.base.errors import Problem
from mtad.compose.preview import tracking_keys

MOST_CONTACTS = 1_000_000
SITES = 20

AGAIN = "again"

_AGAIN_FILE = f"""
name = "{AGAIN}"
kind = "campaign"
stream = "{STREAM}"
[[step]]
message = "{CAMPAIGN}"
"""

# Each buyer gets one mail: as many as there are seconds if bulk goes at this rate, and some.
_SLOWEST, _BUYERS = 100, 3000

_CONNECTIONS = 64  # of the hits
_MARK = 1  # likewise
_PATIENCE = 60.0  # for the last transactional mails

# created is the start of the transaction that made the job, some milliseconds before its commit.
_DELAYS = """
select 1000 * extract(epoch from ended - created)::float8 as ended,
       1000 * extract(epoch from begun - created)::float8 as begun
  from ledger
 where program_id = (select id from program where name = $1) and outcome = 'delivered' and created <= $2
"""


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    contacts: int
    size: int
    workers: int
    sink: str
    sessions: int
    hits: float
    transactional: float
    seed: int
    limit: float
    json: Path | None


class Report(msgspec.Struct, frozen=True):
    """What --json writes. benchmarks/README.md says how each figure is taken."""

    transactional_p50_ms: float
    transactional_p99_ms: float
    transactional_max_ms: float
    transactional_begin_p50_ms: float  # until its begin: claimed, composed, signed, a session at hand
    transactional_begin_p99_ms: float
    transactional_sent: int
    transactional_per_s: float
    bulk_rate_alone: float
    bulk_rate_mixed: float
    bulk_share: float
    hits_per_s: float
    hit_p50_ms: float
    hit_p99_ms: float
    lost: int
    duplicates: int
    hits: int
    hits_failed: int
    hits_lost: int
    hits_doubled: int
    hit_to_fold_p50_s: float  # with the settle window of 5 s
    hit_to_fold_p99_s: float
    cores: Mapping[str, Mapping[str, float]]  # in the mean, alone and mixed, by who
    cpu_us_per_bulk_mail: Mapping[str, Mapping[str, float]]  # likewise
    cpu_us_per_hit: Mapping[str, float]  # what the mix takes beyond its bulk, transactional mail included
    load_before: float
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print a line, write the JSON. A Problem is one line and its exit code."""
    plan = _plan()
    finish(
        "mixed",
        measure(plan),
        limit=plan.limit,
        json=plan.json,
        line=lambda report: (
            f"{report.transactional_sent:,} transactional mails: p50 {report.transactional_p50_ms:,.0f} ms, "
            f"p99 {report.transactional_p99_ms:,.0f} ms; bulk {report.bulk_rate_mixed:,.0f} a second, "
            f"{report.bulk_share:.2f} of {report.bulk_rate_alone:,.0f} alone; {report.hits_per_s:,.0f} hits a second, "
            f"p99 {report.hit_p99_ms:,.1f} ms, to the fold {report.hit_to_fold_p99_s:g} s; "
            f"lost {report.lost}, duplicates {report.duplicates}"
        ),
        good=lambda report: not (report.lost or report.duplicates or report.hits_lost or report.hits_doubled),
    )


def _plan() -> Plan:
    parser = command_line("mixed", __doc__, limit=1200)
    parser.add_argument("--contacts", type=int, default=100_000, help="recipients of the campaign, which is sent twice")
    parser.add_argument("--size", type=int, default=15_000, help="bytes of a message, about")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sink", choices=("smtp-sink", "lab"), default="smtp-sink")
    parser.add_argument("--sessions", type=int, default=100, help="connections to one site, over all workers")
    parser.add_argument("--hits", type=float, default=2000, help="a second")
    parser.add_argument("--transactional", type=float, default=50, help="mails a second")
    found = parser.parse_args()
    if not 1 <= found.contacts <= MOST_CONTACTS:
        parser.error(f"--contacts: 1 to {MOST_CONTACTS:,}, is {found.contacts}")
    if min(found.workers, found.sessions) < 1 or min(found.hits, found.transactional) <= 0:
        parser.error("--workers, --sessions: at least 1; --hits, --transactional: above 0")
    return Plan(**vars(found))


async def measure(plan: Plan) -> Report:
    """One run from an empty folder; Problem when it cannot be finished."""
    load_before = os.getloadavg()[0]
    draw = random.Random(plan.seed)
    domains = [f"d{number}.example.net" for number in range(SITES)]
    async with (
        receiving(plan.sink, SITES) as receiver,
        installed(plan.workers, statements=False) as place,
        place.connected() as pool,
    ):
        place.configure(list(zip(domains, receiver.addresses, strict=True)), sessions=plan.sessions)
        await _prepare(plan, place, pool, domains, draw)
        accounts = Accounts(pool, place.postmaster, [] if receiver.lab else receiver.pids)
        alone = await send_through(place, pool, accounts, CAMPAIGN, plan.contacts)
        load = _Load(plan, place, pool, Receipts(pool, plan.transactional), accounts)
        await load.prepare(draw)
        mixed = await send_through(place, pool, accounts, AGAIN, plan.contacts, load.arriving)
        assert load.outcome is not None
        hits = await noted(pool, _MARK)
        delays = await pool.fetch(_DELAYS, PROGRAM, mixed.sent.last)
        receipts = await sent(pool, PROGRAM)
        version = await pool.fetchval("show server_version")
        for name in (CAMPAIGN, AGAIN, PROGRAM):
            if not (await place.installation.command("audit", name))["adds_up"]:
                raise Problem(f"the audit of {name} does not add up")
    outcome = load.outcome
    ended, begun = (sorted(row[name] for row in delays) for name in ("ended", "begun"))
    undelivered = 2 * plan.contacts - alone.sent.delivered - mixed.sent.delivered
    return Report(
        transactional_p50_ms=round(quantile(ended, 0.5), 1),
        transactional_p99_ms=round(quantile(ended, 0.99), 1),
        transactional_max_ms=round(quantile(ended, 1.0), 1),
        transactional_begin_p50_ms=round(quantile(begun, 0.5), 1),
        transactional_begin_p99_ms=round(quantile(begun, 0.99), 1),
        transactional_sent=len(ended),
        transactional_per_s=round(load.receipts.made / load.receipts.seconds, 1),
        bulk_rate_alone=round(alone.sent.rate, 1),
        bulk_rate_mixed=round(mixed.sent.rate, 1),
        bulk_share=round(mixed.sent.rate / alone.sent.rate, 3),
        hits_per_s=round(outcome.answered / outcome.seconds, 1),
        hit_p50_ms=outcome.p50_ms,
        hit_p99_ms=outcome.p99_ms,
        lost=undelivered + load.receipts.made - receipts.delivered,
        duplicates=alone.sent.doubts + mixed.sent.doubts + receipts.doubts,
        hits=outcome.answered,
        hits_failed=len(outcome.failed),
        hits_lost=hits.lost(outcome),
        hits_doubled=hits.doubled,
        hit_to_fold_p50_s=round(gauges.quantile(load.folded, 0.5), 2),
        hit_to_fold_p99_s=round(gauges.quantile(load.folded, 0.99), 2),
        cores={"alone": alone.budget.cores(), "mixed": mixed.budget.cores()},
        cpu_us_per_bulk_mail={"alone": alone.cpu_us(), "mixed": mixed.cpu_us()},
        cpu_us_per_hit=_beside(alone, mixed, hits=mixed.budget.seconds * plan.hits),
        load_before=round(load_before, 2),
        command=sys.argv[1:],
        machine=machine(version),
    )


async def _prepare(plan: Plan, place: Place, pool: Pool, domains: list[str], draw: random.Random) -> None:
    """Two campaigns to the same people, and others who wait for transactional mail."""
    say(f"importing {plan.contacts:,} contacts")
    people = place.folder / "people.csv"
    write_people(people, plan.contacts, domains, draw)
    await import_people(place, people, write_campaign(place.folder, plan.size, draw))
    again = place.folder / "again.toml"
    again.write_text(_AGAIN_FILE, encoding="utf-8")
    await place.installation.command("program", "apply", str(again))
    await set_up(place, _BUYERS + int(plan.contacts / _SLOWEST * plan.transactional), domains, draw)
    await place.resolve(pool)


def _beside(alone: Phase, mixed: Phase, hits: float) -> dict[str, float]:
    """µs a hit of what the mix used beyond what its bulk would have used alone, by who."""
    usual = {who: used / alone.sent.delivered * mixed.sent.delivered for who, used in alone.budget.cpu.items()}
    beyond = {who: used - usual.get(who, 0.0) for who, used in mixed.budget.cpu.items() if who != "others"}
    return {who: round(used / hits * 1e6, 1) for who, used in {**beyond, "all": sum(beyond.values())}.items()}


class _Load:
    """Hits and transactional mails that arrive beside a campaign."""

    def __init__(self, plan: Plan, place: Place, pool: Pool, receipts: Receipts, accounts: Accounts) -> None:
        self._plan = plan
        self._place = place
        self._pool = pool
        self._paths = place.folder / "paths"
        self._accounts = accounts
        self.receipts = receipts
        self.outcome: Outcome | None = None
        self.folded: dict[float, float] = {}

    async def prepare(self, draw: random.Random) -> None:
        """Know what is asked for, the mails of the campaign before, and who gets a transactional one."""
        await self.receipts.prepare()
        keys = tracking_keys(self._place.installation.config)
        write_paths(self._paths, await hit_paths(self._pool, keys, mails=self._plan.contacts, draw=draw))

    @contextlib.asynccontextmanager
    async def arriving(self, http: aiohttp.ClientSession) -> AsyncIterator[None]:
        """Hits and mails arrive inside the block; after it all of both has come through."""
        port = await until_it_answers(self._place, http)
        async with hitting(port, self._paths, rate=self._plan.hits, connections=_CONNECTIONS, mark=_MARK) as process:
            self._accounts.helpers["hits"] = process.pid
            async with self.receipts.arriving():
                yield
            self.outcome = await outcome_of(process)
        await until_ingested(self._pool, datetime.now(UTC))
        async with asyncio.timeout(_PATIENCE):
            await self._until_empty()
        self.folded = gauges.buckets(await self._place.metrics(http), "mtad_tracker_fold_seconds")

    async def _until_empty(self) -> None:
        while True:
            if not await self._pool.fetchval("select exists (select from job)"):
                return
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    main()
