"""``python -m benchmarks.tracking``: durable hits a second on one worker, beside nginx's empty_gif on the same machine.

Mails are sent first, so that every hit is on a real one; then an open loop asks for their
pixels and links at a fixed rate, and wrk as fast as it is answered. Each request bears a
number, and each that was answered must be in Postgres exactly once.
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
from benchmarks.hits import Noted, hitting, noted, outcome_of, until_ingested, until_it_answers
from benchmarks.opened import mails_to_open
from benchmarks.openloop import Outcome
from benchmarks.place import Place, installed
from benchmarks.run import say
from benchmarks.sinks import smtp_sink_program
from benchmarks.wrk import Flood, flood, nginx, nginx_program, wrk_program
from mtad.base.clock import SystemClock
from mtad.base.db import Pool

MOST_CONTACTS = 200_000

# Marks of the requests.
_LOOP, _WRK = 1, 2


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    seconds: int
    connections: int
    rate: float
    contacts: int
    sink: str
    seed: int
    limit: float
    json: Path | None


class Report(msgspec.Struct, frozen=True):
    """What --json writes. benchmarks/README.md says how each figure is taken."""

    hits_per_s: float
    p50_ms: float
    p99_ms: float
    rate_wanted: float
    rate_kept: float  # of the open loop
    p50_ms_at_rate: float
    p99_ms_at_2000: float  # at `rate_wanted`, which is 2,000 unless asked otherwise
    max_ms_at_rate: float
    hits: int
    failed: int
    lost: int
    doubled: int
    nginx_hits_per_s: float
    nginx_p99_ms: float
    ratio_to_nginx: float
    cpu_us_per_hit: Mapping[str, float]
    cpu_us_of_the_loop: float
    ingest_behind_s: float
    paths: int
    load_before: float
    command: list[str]
    machine: Mapping[str, str | int]


class _Flooded(msgspec.Struct, frozen=True):
    """The closed loop with what it took, Postgres included until all of it was there."""

    flood: Flood
    cpu: Mapping[str, float]  # seconds
    behind: float  # seconds


def main() -> None:
    """Run, print a line, write the JSON. A Problem is one line and its exit code."""
    plan = _plan()
    finish(
        "tracking",
        measure(plan),
        limit=plan.limit,
        json=plan.json,
        line=lambda report: (
            f"{report.hits_per_s:,.0f} hits a second, {report.ratio_to_nginx:.3f} of nginx; p99 "
            f"{report.p99_ms_at_2000:.1f} ms at {report.rate_kept:,.0f} a second; "
            f"lost {report.lost}, doubled {report.doubled}"
        ),
        good=lambda report: not (report.lost or report.doubled or report.failed),
    )


def _plan() -> Plan:
    parser = command_line("tracking", __doc__, limit=600)
    parser.add_argument("--seconds", type=int, default=10, help="of each of the three loads")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2000, help="hits a second of the open loop")
    parser.add_argument("--contacts", type=int, default=10_000, help="mails that are sent first, two addresses each")
    parser.add_argument("--sink", choices=("smtp-sink", "lab"), default="smtp-sink", help="takes those mails")
    found = parser.parse_args()
    if not 1 <= found.contacts <= MOST_CONTACTS:
        parser.error(f"--contacts: 1 to {MOST_CONTACTS:,}, is {found.contacts}")
    if min(found.seconds, found.connections, found.rate) < 1:
        parser.error("--seconds, --connections, --rate: at least 1")
    return Plan(**vars(found))


async def measure(plan: Plan) -> Report:
    """One run from an empty folder; Problem when it cannot be finished."""
    wrk_program(), nginx_program()  # before a minute is spent on the rest
    if plan.sink == "smtp-sink":
        smtp_sink_program()
    load_before = os.getloadavg()[0]
    draw = random.Random(plan.seed)
    async with installed(1) as place, place.connected() as pool:
        paths, addresses = await mails_to_open(place, pool, contacts=plan.contacts, sink=plan.sink, draw=draw)
        async with aiohttp.ClientSession() as http:
            port = await until_it_answers(place, http)
        # Before the flood, whose hits are judged for a while after it.
        say(f"asking for {addresses:,} addresses, {plan.rate:,.0f} a second")
        async with hitting(port, paths, rate=plan.rate, connections=plan.connections, mark=_LOOP) as process:
            await SystemClock().sleep(plan.seconds)
            outcome = await outcome_of(process)
        await until_ingested(pool, datetime.now(UTC))
        say(f"p99 {outcome.p99_ms:.1f} ms; now as fast as {plan.connections} connections are answered")
        flooded = await _flood(plan, place, pool, port, paths)
        closed, opened = await noted(pool, _WRK), await noted(pool, _LOOP)
        version = await pool.fetchval("show server_version")
        await place.stop()
        say("the same of nginx")
        async with nginx(place.folder) as nginx_port:
            yardstick = await flood(nginx_port, paths, seconds=plan.seconds, connections=plan.connections, mark=_WRK)
    return _report(
        plan, flooded, outcome, closed, opened, yardstick, paths=addresses, load=load_before, version=version
    )


async def _flood(plan: Plan, place: Place, pool: Pool, port: int, paths: Path) -> _Flooded:
    (worker,) = place.started()
    before = gauges.tree_cpu(worker), gauges.tree_cpu(place.postmaster)
    found = await flood(port, paths, seconds=plan.seconds, connections=plan.connections, mark=_WRK)
    mtad = gauges.tree_cpu(worker) - before[0]
    behind = await until_ingested(pool, datetime.now(UTC))
    return _Flooded(found, {"mtad": mtad, "postgres": gauges.tree_cpu(place.postmaster) - before[1]}, behind)


def _report(
    plan: Plan, flooded: _Flooded, outcome: Outcome, closed: Noted, opened: Noted, yardstick: Flood,
    *, paths: int, load: float, version: str,
) -> Report:  # fmt: skip
    found = flooded.flood
    return Report(
        hits_per_s=round(found.rate, 1),
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        rate_wanted=plan.rate,
        rate_kept=round(outcome.answered / outcome.seconds, 1),
        p50_ms_at_rate=outcome.p50_ms,
        p99_ms_at_2000=outcome.p99_ms,
        max_ms_at_rate=outcome.max_ms,
        hits=found.answered + outcome.answered,
        failed=found.failed + len(outcome.failed),
        lost=closed.surely_lost(found) + opened.lost(outcome),
        doubled=closed.doubled + opened.doubled,
        nginx_hits_per_s=round(yardstick.rate, 1),
        nginx_p99_ms=yardstick.p99_ms,
        ratio_to_nginx=round(found.rate / yardstick.rate, 4),
        cpu_us_per_hit={name: round(cpu / found.answered * 1e6, 1) for name, cpu in flooded.cpu.items()},
        cpu_us_of_the_loop=outcome.cpu_us,
        ingest_behind_s=round(flooded.behind, 2),
        paths=paths,
        load_before=round(load, 2),
        command=sys.argv[1:],
        machine=machine(version),
    )


if __name__ == "__main__":
    main()
