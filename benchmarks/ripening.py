"""``python -m benchmarks.ripening``: how long a person's hit takes to the commit of its fold, at a fixed rate.

Mails are sent first, one for each hit: what is asked for twice waits for its settle window
again. Then an open loop asks for their pixels, and the workers' histograms tell the rest.
"""

import os
import random
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec

from benchmarks import gauges
from benchmarks.entry import command_line, finish, machine
from benchmarks.folded import until_folded
from benchmarks.hits import hitting, noted, outcome_of, until_ingested, until_it_answers, write_paths
from benchmarks.opened import mails_to_open, set_window
from benchmarks.openloop import Outcome
from benchmarks.place import Place, installed
from benchmarks.run import say
from benchmarks.sinks import smtp_sink_program
from mtad.base.clock import SystemClock
from mtad.base.db import Pool

MOST_HITS = 200_000

_MARK = 1
_CONNECTIONS = 64


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    rate: float
    seconds: int
    settle: float
    workers: int
    sink: str
    seed: int
    limit: float
    json: Path | None

    @property
    def mails(self) -> int:
        """One for each hit, and for those that are asked for while the loop is stopped."""
        return int(self.rate * (self.seconds + 1)) + 1


class Report(msgspec.Struct, frozen=True):
    """What --json writes. benchmarks/README.md says how each figure is taken."""

    hit_to_fold_s: Mapping[str, float]  # p50, p99, with the settle window
    settle_s: float
    folded: int
    hits: int
    rate_kept: float
    hit_p99_ms: float
    failed: int
    lost: int
    doubled: int
    cpu_us_per_hit: Mapping[str, float]
    load_before: float
    load_after: float
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print a line, write the JSON. A Problem is one line and its exit code."""
    plan = _plan()
    finish(
        "ripening",
        measure(plan),
        limit=plan.limit,
        json=plan.json,
        line=lambda report: (
            f"hit to fold p50 {report.hit_to_fold_s['p50']:.2f} s, p99 {report.hit_to_fold_s['p99']:.2f} s, of it "
            f"{report.settle_s:g} s the settle window, at {report.rate_kept:,.0f} a second; "
            f"lost {report.lost}, doubled {report.doubled}"
        ),
        good=lambda report: not (report.lost or report.doubled or report.failed),
    )


def _plan() -> Plan:
    parser = command_line("ripening", __doc__, limit=600)
    parser.add_argument("--rate", type=float, default=2000, help="hits a second")
    parser.add_argument("--seconds", type=int, default=10, help="of hits; a mail is sent for each of them first")
    parser.add_argument("--settle", type=float, default=5, help="seconds of the stream's settle window")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sink", choices=("smtp-sink", "lab"), default="smtp-sink", help="takes the mails")
    plan = Plan(**vars(parser.parse_args()))
    if min(plan.rate, plan.seconds, plan.workers) < 1 or plan.settle < 0:
        parser.error("--rate, --seconds, --workers: at least 1; --settle: not below 0")
    if plan.mails > MOST_HITS:
        parser.error(f"--rate, --seconds: {MOST_HITS:,} hits at most")
    return plan


async def measure(plan: Plan) -> Report:
    """One run from an empty folder; Problem when it cannot be finished."""
    if plan.sink == "smtp-sink":
        smtp_sink_program()  # before a minute is spent on the rest
    load_before = os.getloadavg()[0]
    async with installed(plan.workers) as place, place.connected() as pool, aiohttp.ClientSession() as http:
        draw = random.Random(plan.seed)
        paths, _ = await mails_to_open(place, pool, contacts=plan.mails, sink=plan.sink, draw=draw)
        await set_window(place, plan.settle)
        pixels = place.folder / "pixels"
        write_paths(pixels, [path for path in paths.read_text().split() if path.endswith(".gif")])
        port = await until_it_answers(place, http)
        workers = place.started()
        say(f"asking for {plan.rate * plan.seconds:,.0f} pixels, {plan.rate:,.0f} a second")
        before = _cpu(place, workers)
        outcome = await _ask(plan, pool, port, pixels)
        cpu = {name: used - before[name] for name, used in _cpu(place, workers).items()}
        rows = await noted(pool, _MARK)
        folds = gauges.buckets(await place.metrics(http), "mtad_tracker_fold_seconds")
        version = await pool.fetchval("show server_version")
    return Report(
        hit_to_fold_s={f"p{share}": round(gauges.quantile(folds, share / 100), 2) for share in (50, 99)},
        settle_s=plan.settle,
        folded=int(max(folds.values(), default=0)),
        hits=outcome.answered,
        rate_kept=round(outcome.answered / outcome.seconds, 1),
        hit_p99_ms=outcome.p99_ms,
        failed=len(outcome.failed),
        lost=rows.lost(outcome),
        doubled=rows.doubled,
        cpu_us_per_hit={name: round(used / outcome.answered * 1e6, 1) for name, used in cpu.items()},
        load_before=round(load_before, 2),
        load_after=round(os.getloadavg()[0], 2),
        command=sys.argv[1:],
        machine=machine(version),
    )


async def _ask(plan: Plan, pool: Pool, port: int, pixels: Path) -> Outcome:
    """Hits for as long as was asked, until the last of them is judged and folded."""
    async with hitting(port, pixels, rate=plan.rate, connections=_CONNECTIONS, mark=_MARK) as process:
        await SystemClock().sleep(plan.seconds)
        outcome = await outcome_of(process)
    await until_ingested(pool, datetime.now(UTC))
    await until_folded(pool)
    return outcome


def _cpu(place: Place, workers: list[int]) -> dict[str, float]:
    """Seconds so far, with all that workers and Postgres do beside."""
    return {"mtad": sum(map(gauges.tree_cpu, workers)), "postgres": gauges.tree_cpu(place.postmaster)}


if __name__ == "__main__":
    main()
