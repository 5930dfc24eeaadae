"""``python -m benchmarks.soak``: a campaign every few seconds and hits beside it, for long; does anything grow?

Every campaign goes to the same people and is enqueued by the housekeeper, as one that an
operator has scheduled. Memory, dead rows and tables are flat when the last quarter of
the time is not above the second. Without --limit it is given up 10 minutes after --minutes.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec

from benchmarks.campaigns import campaigns, start_round, until_idle
from benchmarks.entry import command_line, finish, machine
from benchmarks.gauges import quantile
from benchmarks.hits import hit_paths, hitting, noted, outcome_of, until_ingested, until_it_answers, write_paths
from benchmarks.mailing import write_campaign, write_people
from benchmarks.openloop import Outcome
from benchmarks.place import Place, installed
from benchmarks.run import import_people, say
from benchmarks.samples import Sample, look
from benchmarks.sinks import receiving
from benchmarks.trends import Trend, steps, trend
from mtad.base.db import Pool
from mtad.base.plot import Line, Panel, svg
from mtad.compose.preview import tracking_keys

SITES = 20
MOST_MINUTES = 24 * 60

# They keep what happened, so they grow with every mail, hit or program; all others must not.
KEEPS = frozenset(
    ["answer", "enrolled", "event", "event_key", "ledger", "message", "message_link", "program", "program_version",
     "tally", "transition"]
)  # fmt: skip

_CONNECTIONS = 16  # of the hits
_MARK = 1  # likewise

# What is noise in a figure that is small.
_SLACK_MB, _SLACK_ROWS, _SLACK_MS, _SLACK_TABLE_MB = 2.0, 2000.0, 5.0, 1.0

_SENT = """
select (select count(*) from enrolled) as enrolled, count(*) as ended,
       count(*) filter (where outcome = 'delivered') as delivered, coalesce(sum(doubts), 0)::bigint as doubts
  from ledger
"""


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    minutes: float
    rate: float
    period: float
    hits: float
    every: float
    size: int
    workers: int
    sink: str
    seed: int
    limit: float
    svg: Path | None
    json: Path | None


class Flat(msgspec.Struct, frozen=True):
    """Whether the last quarter of the time is like the second, by what the issue is about."""

    memory: bool
    dead_rows: bool
    tables: bool


class Report(msgspec.Struct, frozen=True):
    """What --json writes. benchmarks/README.md says how each figure is taken."""

    minutes: float
    samples: int
    flat: Flat
    mails: int
    rate: float
    hits: int
    hit_p99_ms: float
    rss_mb: Sequence[Trend]  # by worker
    loop_lag_p99_ms: Trend  # of each interval between two samples, all workers
    queue_depth: Trend
    dead_rows: Trend  # of the tables that must not grow
    tables_mb: Mapping[str, Trend]  # likewise
    kept_bytes_per_mail: Mapping[str, float]  # of those that keep what happened, hits included
    lost: int
    duplicates: int
    hits_lost: int
    load_before: float
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print a line, write JSON and plot. A Problem is one line and its exit code."""
    plan = _plan()
    finish(
        "soak",
        measure(plan),
        limit=plan.limit or plan.minutes * 60 + 600,
        json=plan.json,
        line=lambda report: (
            f"{report.mails:,} mails and {report.hits:,} hits in {report.minutes:.1f} min; flat: "
            + ", ".join(f"{name} {'yes' if yes else 'NO'}" for name, yes in msgspec.structs.asdict(report.flat).items())
            + f"; lost {report.lost}, duplicates {report.duplicates}"
        ),
        good=lambda report: not (report.lost or report.duplicates or report.hits_lost),
    )


def _plan() -> Plan:
    parser = command_line("soak", __doc__, limit=0)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=200, help="mails a second, in the mean")
    parser.add_argument("--period", type=float, default=10, help="seconds from one campaign to the next")
    parser.add_argument("--hits", type=float, default=100, help="a second")
    parser.add_argument("--every", type=float, default=5, help="seconds between two samples")
    parser.add_argument("--size", type=int, default=15_000, help="bytes of a message, about")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--sink", choices=("smtp-sink", "lab"), default="smtp-sink", help="lab keeps all mail in memory"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="plot memory, lag, queue and dead rows there")
    found = parser.parse_args()
    if not 0 < found.minutes <= MOST_MINUTES:
        parser.error(f"--minutes: above 0, at most {MOST_MINUTES:,}, is {found.minutes:g}")
    if min(found.rate, found.period, found.hits, found.every, found.rate * found.period) <= 0 or found.workers < 1:
        parser.error("--rate, --period, --hits, --every: above 0; --workers: at least 1")
    return Plan(**vars(found))


async def measure(plan: Plan) -> Report:
    """One run from an empty folder; Problem when it cannot be finished."""
    load_before = os.getloadavg()[0]
    draw = random.Random(plan.seed)
    domains = [f"d{number}.example.net" for number in range(SITES)]
    async with (
        receiving(plan.sink, SITES) as receiver,
        installed(plan.workers) as place,
        place.connected() as pool,
        aiohttp.ClientSession() as http,
    ):
        place.configure(list(zip(domains, receiver.addresses, strict=True)), sessions=10)
        await _prepare(plan, place, pool, domains, draw)
        await place.start()
        port = await until_it_answers(place, http)
        # The first campaign comes before the time begins: somebody must have a mail to open.
        await start_round(place, pool, 0)
        await until_idle(pool)
        paths = place.folder / "paths"
        keys = tracking_keys(place.installation.config)
        write_paths(paths, await hit_paths(pool, keys, mails=_people(plan), draw=draw))
        async with hitting(port, paths, rate=plan.hits, connections=_CONNECTIONS, mark=_MARK) as process:
            async with campaigns(place, pool, plan.period):
                samples = await _watch(plan, place, pool, http)
            outcome = await outcome_of(process)
        await until_idle(pool)
        await until_ingested(pool, datetime.now(UTC))
        hits = await noted(pool, _MARK)
        sent = await pool.fetchrow(_SENT)
        version = await pool.fetchval("show server_version")
        assert sent is not None
    if plan.svg:
        plan.svg.write_text(_plot(samples), encoding="utf-8")
    return _report(plan, samples, outcome, dict(sent), hits.lost(outcome), load=load_before, version=version)


def _people(plan: Plan) -> int:
    return max(1, round(plan.rate * plan.period))


async def _prepare(plan: Plan, place: Place, pool: Pool, domains: list[str], draw: random.Random) -> None:
    say(f"importing {_people(plan):,} contacts")
    people = place.folder / "people.csv"
    write_people(people, _people(plan), domains, draw)
    await import_people(place, people, write_campaign(place.folder, plan.size, draw))
    await place.resolve(pool)


async def _watch(plan: Plan, place: Place, pool: Pool, http: aiohttp.ClientSession) -> list[Sample]:
    """A sample every few seconds until the time is over; Problem when a worker dies."""
    samples: list[Sample] = []
    workers = place.started()
    began = said = time.monotonic()
    while True:
        at = time.monotonic() - began
        place.check()
        samples.append(await look(at, place, pool, http, workers))
        if sys.stderr.isatty() or time.monotonic() - said > 60:
            said = time.monotonic()
            memory = ", ".join(f"{mb:.0f}" for mb in samples[-1].rss_mb)
            say(f"{at / 60:.1f} min: memory {memory} MB, {samples[-1].queued:,} queued")
        if at >= plan.minutes * 60:
            return samples
        await asyncio.sleep(max(0.0, began + len(samples) * plan.every - time.monotonic()))


def _lag_ms(samples: Sequence[Sample]) -> list[float]:
    """The p99 of the loops' lag in each interval; nothing is known of the first sample."""
    return [1000 * quantile(seen, 0.99) for seen in steps([sample.lag for sample in samples])]


def _dead(sample: Sample) -> float:
    return float(sum(rows for name, rows in sample.dead_rows.items() if name not in KEEPS))


def _plot(samples: Sequence[Sample]) -> str:
    workers = range(len(samples[0].rss_mb))
    return svg(
        [sample.at for sample in samples],
        [
            Panel("memory, MB", [Line(f"worker {n}", [sample.rss_mb[n] for sample in samples]) for n in workers]),
            Panel("event loop lag, p99 ms", [Line("all workers", _lag_ms(samples))]),
            Panel("queue", [Line("mails", [float(sample.queued) for sample in samples])]),
            Panel("dead rows in tables that must not grow", [Line("rows", [_dead(sample) for sample in samples])]),
        ],
    )


def _report(
    plan: Plan, samples: Sequence[Sample], outcome: Outcome, sent: Mapping[str, int], hits_lost: int,
    *, load: float, version: str,
) -> Report:  # fmt: skip
    times = [sample.at for sample in samples]

    def of(values: Sequence[float], slack: float) -> Trend:
        return trend(times, values, slack=slack)

    names = sorted(samples[0].table_mb)
    memory = [of([sample.rss_mb[n] for sample in samples], _SLACK_MB) for n in range(plan.workers)]
    dead = of([_dead(sample) for sample in samples], _SLACK_ROWS)
    tables = {
        name: of([sample.table_mb[name] for sample in samples], _SLACK_TABLE_MB) for name in names if name not in KEEPS
    }
    mails = sent["delivered"] - _people(plan)  # without those of the first campaign
    return Report(
        minutes=round(times[-1] / 60, 2),
        samples=len(samples),
        flat=Flat(all(one.flat for one in memory), dead.flat, all(one.flat for one in tables.values())),
        mails=mails,
        rate=round(mails / max(times[-1], 1e-9), 1),
        hits=outcome.answered,
        hit_p99_ms=outcome.p99_ms,
        rss_mb=memory,
        loop_lag_p99_ms=of(_lag_ms(samples), _SLACK_MS),
        queue_depth=of([float(sample.queued) for sample in samples], float(_people(plan))),
        dead_rows=dead,
        tables_mb=tables,
        kept_bytes_per_mail={
            name: round((samples[-1].table_mb[name] - samples[0].table_mb[name]) * 1e6 / max(mails, 1), 1)
            for name in names
            if name in KEEPS
        },
        lost=sent["enrolled"] - sent["ended"],
        duplicates=sent["doubts"],
        hits_lost=hits_lost,
        load_before=round(load, 2),
        command=sys.argv[1:],
        machine=machine(version),
    )


if __name__ == "__main__":
    main()
