"""``python -m benchmarks.depth``: claim, begin, settle and memory against the depth of the queue.

One database for each depth, all in one Postgres and measured in turn, each time by a
fresh process. What is asked for and how it is taken: benchmarks/README.md.
"""

import contextlib
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.backlog import Backlog, filled, serving, version_of
from benchmarks.entry import command_line, finish, machine
from benchmarks.lists import numbers
from benchmarks.rounds import Call, Measured, Task, measured
from benchmarks.run import say
from mtad.ops.postgres import Postgres

MOST_ROWS = 50_000_000
MOST_LANES = 100_000
FEWEST = 1000  # rows: with fewer a claim finds too little to be timed


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    rows: list[int]
    lanes: list[int]
    contacts: int
    due: int
    batch: int
    warm: int
    rounds: int
    runs: int
    seconds: float
    seed: int
    limit: float
    json: Path | None


class Cost(msgspec.Struct, frozen=True):
    """All calls of one kind: the median of their jobs, milliseconds, and CPU milliseconds (means)."""

    calls: int
    jobs: float
    ms: float
    p99_ms: float
    mtad_cpu_ms: float
    postgres_cpu_ms: float

    @property
    def ms_per_job(self) -> float:
        """What makes claims of different sizes comparable."""
        return self.ms / self.jobs

    @property
    def cpu_ms_per_job(self) -> float:
        """The same in CPU time, which other load on the machine moves less."""
        return (self.mtad_cpu_ms + self.postgres_cpu_ms) / self.jobs


class Depth(msgspec.Struct, frozen=True):
    """One queue. `*_ms` are medians of a call; `sweeps_ms` medians of the housekeeper's sweeps."""

    rows: int
    lanes: int
    closed_lanes: int
    contacts: int
    jobs_per_claim: float
    claim_ms: float
    begin_ms: float
    settle_ms: float
    rss_mb: float
    claim: Cost
    begin: Cost
    settle: Cost
    sweeps_ms: Mapping[str, float]
    fill_seconds: float
    load: float


class Ratio(msgspec.Struct, frozen=True):
    """The deepest queue over the shallowest, by job; `*_cpu`: CPU time of client and Postgres."""

    lanes: int
    claim: float
    begin: float
    settle: float
    claim_cpu: float
    begin_cpu: float
    settle_cpu: float
    rss: float


class Report(msgspec.Struct, frozen=True):
    """What --json writes."""

    claim_ratio_deepest_to_shallowest: float  # the largest over the numbers of lanes
    rss_ratio_deepest_to_shallowest: float
    ratios: list[Ratio]
    depths: list[Depth]
    due: int
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print a line, write the JSON."""
    plan = _plan()
    finish("depth", measure(plan), limit=plan.limit, json=plan.json, line=_line, good=lambda _: True)


def _plan() -> Plan:
    parser = command_line("depth", __doc__, limit=3600)
    parser.add_argument(
        "--rows", type=numbers, default=[10_000, 1_000_000, 10_000_000], help="depths, e.g. 10000,1000000"
    )
    parser.add_argument("--lanes", type=numbers, default=[10, 10_000], help="numbers of lanes, e.g. 10,10000")
    parser.add_argument(
        "--contacts",
        type=int,
        default=1_000_000,
        help="people, at every depth; deeper queues hold several jobs of each",
    )
    parser.add_argument(
        "--due", type=int, help="jobs of open lanes that are due, the others later (default: half of the fewest rows)"
    )
    parser.add_argument("--batch", type=int, default=64, help="jobs of one begin, and of one settle")
    parser.add_argument("--warm", type=int, default=50, help="rounds of each run before those that count")
    parser.add_argument("--rounds", type=int, default=50, help="of claim, begin and settle in each run")
    parser.add_argument("--runs", type=int, default=3, help="of each depth, in turn")
    parser.add_argument("--seconds", type=float, default=60, help="of a run, at most")
    found = parser.parse_args()
    if not all(FEWEST <= rows <= MOST_ROWS for rows in found.rows):
        parser.error(f"--rows: {FEWEST:,} to {MOST_ROWS:,} each")
    if not all(2 <= lanes <= MOST_LANES for lanes in found.lanes):
        parser.error(f"--lanes: 2 to {MOST_LANES:,} each")
    if found.due is None:
        found.due = min(found.rows) // 2
    if min(found.due, found.batch, found.rounds, found.runs) < 1 or found.warm < 0 or found.seconds <= 0:
        parser.error("--due, --batch, --rounds, --runs: at least 1; --warm: at least 0; --seconds: above 0")
    if found.contacts < 2 * max(found.lanes) or found.contacts % 2:
        parser.error("--contacts: even, and at least two for each lane")
    return Plan(**vars(found))


async def measure(plan: Plan) -> Report:
    """Every number of lanes after the other, all depths of one in turn."""
    depths: list[Depth] = []
    with serving() as server:
        for lanes in plan.lanes:
            depths += await _with_lanes(plan, server, lanes)
        version = await version_of(server)
    ratios = [_ratio([depth for depth in depths if depth.lanes == lanes]) for lanes in plan.lanes]
    return Report(
        claim_ratio_deepest_to_shallowest=max(ratio.claim for ratio in ratios),
        rss_ratio_deepest_to_shallowest=max(ratio.rss for ratio in ratios),
        ratios=ratios,
        depths=depths,
        due=plan.due,
        command=sys.argv[1:],
        machine=machine(version),
    )


async def _with_lanes(plan: Plan, server: Postgres, lanes: int) -> list[Depth]:
    """All depths with so many lanes. Their databases stand side by side, so that none has the quieter hour."""
    backlogs = [Backlog(rows, lanes, plan.contacts, plan.due, plan.seed) for rows in plan.rows]
    async with contextlib.AsyncExitStack() as stack:
        places: list[tuple[str, float]] = []
        for number, backlog in enumerate(backlogs):
            say(f"filling {backlog.rows:,} rows over {lanes:,} lanes")
            places.append(await stack.enter_async_context(filled(server, f"depth_{number}", backlog)))
        found: list[list[Measured]] = [[] for _ in backlogs]
        for run in range(plan.runs):
            for backlog, (url, _), runs in zip(backlogs, places, found, strict=True):
                say(f"{backlog.rows:,} rows over {lanes:,} lanes, run {run + 1} of {plan.runs}")
                last = run == plan.runs - 1
                runs.append(
                    await measured(
                        Task(url, backlog, plan.batch, plan.rounds, plan.warm, seconds=plan.seconds, sweeps=last)
                    )
                )
        return [_depth(backlog, runs, took) for backlog, runs, (_, took) in zip(backlogs, found, places, strict=True)]


def _depth(backlog: Backlog, runs: Sequence[Measured], fill_seconds: float) -> Depth:
    claim = _cost([call for run in runs for call in run.claims])
    begin = _cost([call for run in runs for call in run.begins])
    settle = _cost([call for run in runs for call in run.settles])
    return Depth(
        rows=backlog.rows,
        lanes=backlog.lanes,
        closed_lanes=backlog.closed,
        contacts=backlog.contacts,
        jobs_per_claim=claim.jobs,
        claim_ms=claim.ms,
        begin_ms=begin.ms,
        settle_ms=settle.ms,
        rss_mb=round(max(run.rss_mb for run in runs), 1),
        claim=claim,
        begin=begin,
        settle=settle,
        sweeps_ms={name: round(statistics.median(times), 2) for name, times in runs[-1].sweeps.items()},
        fill_seconds=round(fill_seconds, 1),
        load=round(os.getloadavg()[0], 2),
    )


def _cost(calls: Sequence[Call]) -> Cost:
    times = sorted(call.ms for call in calls)
    return Cost(
        calls=len(calls),
        jobs=statistics.median(call.jobs for call in calls),
        ms=round(statistics.median(times), 3),
        p99_ms=round(times[int(0.99 * (len(times) - 1))], 3),
        mtad_cpu_ms=round(statistics.fmean(call.client for call in calls), 3),
        postgres_cpu_ms=round(statistics.fmean(call.postgres for call in calls), 3),
    )


def _ratio(depths: Sequence[Depth]) -> Ratio:
    """Of one number of lanes."""
    shallow, deep = min(depths, key=lambda d: d.rows), max(depths, key=lambda d: d.rows)
    return Ratio(
        lanes=deep.lanes,
        claim=round(deep.claim.ms_per_job / shallow.claim.ms_per_job, 3),
        begin=round(deep.begin.ms_per_job / shallow.begin.ms_per_job, 3),
        settle=round(deep.settle.ms_per_job / shallow.settle.ms_per_job, 3),
        claim_cpu=round(deep.claim.cpu_ms_per_job / shallow.claim.cpu_ms_per_job, 3),
        begin_cpu=round(deep.begin.cpu_ms_per_job / shallow.begin.cpu_ms_per_job, 3),
        settle_cpu=round(deep.settle.cpu_ms_per_job / shallow.settle.cpu_ms_per_job, 3),
        rss=round(deep.rss_mb / shallow.rss_mb, 3),
    )


def _line(report: Report) -> str:
    lines = [
        f"{d.rows:>11,} rows {d.lanes:>7,} lanes: claim of {d.jobs_per_claim:5.0f} {d.claim_ms:7.2f} ms, "
        f"begin of {d.begin.jobs:3.0f} {d.begin_ms:6.2f} ms, settle {d.settle_ms:6.2f} ms, {d.rss_mb:.1f} MB"
        for d in report.depths
    ]
    return "\n".join(lines) + (
        f"\ndeepest to shallowest, a job: claim {report.claim_ratio_deepest_to_shallowest:.2f}, "
        f"memory {report.rss_ratio_deepest_to_shallowest:.2f}"
    )


if __name__ == "__main__":
    main()
