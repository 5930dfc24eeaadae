"""``python -m benchmarks.claim``: the CPU time of a claim, a begin and a settle, by batch and workers, without SMTP.

Each worker is a process of its own with one connection; Postgres' share is the time of
the backends. Checkpoints, autovacuum and the WAL writer are not in it.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.backlog import Backlog, filled, serving, version_of
from benchmarks.entry import command_line, finish, machine
from benchmarks.lists import numbers
from benchmarks.rounds import Call, Measured, Task, measured
from benchmarks.run import say

MOST_ROWS = 10_000_000
MOST_WORKERS = 16
MOST_BATCH = 1024


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    batches: list[int]
    workers: list[int]
    rows: int
    lanes: int
    contacts: int
    rounds: int
    seconds: float
    seed: int
    limit: float
    json: Path | None


class Share(msgspec.Struct, frozen=True):
    """Of all calls of one kind, µs a job: CPU of the client, CPU of Postgres, and wall clock."""

    mtad: float
    postgres: float
    wall: float


class Case(msgspec.Struct, frozen=True):
    """One batch size and number of workers. `rate`: jobs a second through all three, over all workers."""

    batch: int
    workers: int
    jobs: int
    jobs_per_claim: float
    rate: float
    us_per_job: Mapping[str, Share]  # claim, begin, settle, all


class Report(msgspec.Struct, frozen=True):
    """What --json writes."""

    cases: list[Case]
    rows: int
    lanes: int
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print a line for each case, write the JSON."""
    plan = _plan()
    finish("claim", measure(plan), limit=plan.limit, json=plan.json, line=_line, good=lambda _: True)


def _plan() -> Plan:
    parser = command_line("claim", __doc__, limit=600)
    parser.add_argument(
        "--batches", type=numbers, default=[1, 16, 64, 256], help="jobs of one begin, and of one settle"
    )
    parser.add_argument("--workers", type=numbers, default=[1, 2], help="numbers of workers, e.g. 1,2")
    parser.add_argument("--rows", type=int, default=100_000, help=f"jobs in the queue, at most {MOST_ROWS:,}")
    parser.add_argument("--lanes", type=int, default=20)
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20, help="of claim, begin and settle, by each worker")
    parser.add_argument("--seconds", type=float, default=15, help="of a case, at most")
    found = parser.parse_args()
    if not 100 <= found.rows <= MOST_ROWS:
        parser.error(f"--rows: 100 to {MOST_ROWS:,}")
    if not all(1 <= batch <= MOST_BATCH for batch in found.batches):
        parser.error(f"--batches: 1 to {MOST_BATCH:,} each")
    if not all(1 <= workers <= MOST_WORKERS for workers in found.workers):
        parser.error(f"--workers: 1 to {MOST_WORKERS} each")
    if found.lanes < 2 or found.rounds < 1 or found.seconds <= 0:
        parser.error("--lanes: at least 2; --rounds: at least 1; --seconds: above 0")
    if found.contacts < 2 * found.lanes or found.contacts % 2:
        parser.error("--contacts: even, and at least two for each lane")
    return Plan(**vars(found))


async def measure(plan: Plan) -> Report:
    """Every case on the same queue, which keeps its depth."""
    backlog = Backlog(plan.rows, plan.lanes, plan.contacts, plan.rows, plan.seed)
    cases: list[Case] = []
    with serving() as server:
        say(f"filling {plan.rows:,} rows over {plan.lanes:,} lanes")
        async with filled(server, "claim", backlog) as (url, _):
            for workers in plan.workers:
                for batch in plan.batches:
                    say(f"{workers} workers, batches of {batch}")
                    tasks = [
                        Task(url, backlog, batch, plan.rounds, seconds=plan.seconds, slot=slot)
                        for slot in range(workers)
                    ]
                    cases.append(_case(batch, await asyncio.gather(*map(measured, tasks))))
        version = await version_of(server)
    return Report(cases=cases, rows=plan.rows, lanes=plan.lanes, command=sys.argv[1:], machine=machine(version))


def _case(batch: int, runs: Sequence[Measured]) -> Case:
    kinds = {
        "claim": [call for run in runs for call in run.claims],
        "begin": [call for run in runs for call in run.begins],
        "settle": [call for run in runs for call in run.settles],
    }
    jobs = sum(call.jobs for call in kinds["settle"])
    return Case(
        batch=batch,
        workers=len(runs),
        jobs=jobs,
        jobs_per_claim=round(jobs / len(kinds["claim"]), 1),
        rate=round(sum(map(_rate, runs)), 1),
        us_per_job={
            **{kind: _share(calls, jobs) for kind, calls in kinds.items()},
            "all": _share([call for calls in kinds.values() for call in calls], jobs),
        },
    )


def _rate(run: Measured) -> float:
    """Jobs a second of one worker, without the time in which others arrive."""
    busy = sum(call.ms for calls in (run.claims, run.begins, run.settles) for call in calls)
    return sum(call.jobs for call in run.settles) / busy * 1000


def _share(calls: Sequence[Call], jobs: int) -> Share:
    return Share(
        mtad=round(sum(call.client for call in calls) / jobs * 1000, 2),
        postgres=round(sum(call.postgres for call in calls) / jobs * 1000, 2),
        wall=round(sum(call.ms for call in calls) / jobs * 1000, 2),
    )


def _line(report: Report) -> str:
    lines = ["workers  batch   claim  begin  settle: µs of Postgres a job; mtad   jobs/s"]
    for case in report.cases:
        claim, begin, settle, all_ = (case.us_per_job[kind] for kind in ("claim", "begin", "settle", "all"))
        lines.append(
            f"{case.workers:>7} {case.batch:>6} {claim.postgres:>7.1f} {begin.postgres:>6.1f} {settle.postgres:>7.1f}"
            f" {all_.mtad:>29.1f} {case.rate:>8,.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
