"""``python -m benchmarks.stress``: no hit is lost, doubled or folded twice, whatever is killed or stopped under load.

Mails are sent first, so that every hit is on a real one. Then an open loop asks for their
pixels and links; meanwhile the worker is killed (SIGKILL), again and again, and after that
Postgres is stopped for a while. Each request bears a number, and each that was answered must
be in Postgres exactly once; and of each person the engine must have what a replay of all events gives.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec

from benchmarks.entry import command_line, finish, machine
from benchmarks.folded import folded, until_folded
from benchmarks.hits import hitting, noted, outcome_of, until_ingested, until_it_answers, write_paths
from benchmarks.opened import mails_to_open, set_window
from benchmarks.openloop import Outcome
from benchmarks.place import Place, installed
from benchmarks.run import say
from benchmarks.sinks import smtp_sink_program
from mtad.base.db import Pool
from mtad.base.errors import Problem

# Marks of the requests.
_KILLS, _OUTAGE = 1, 2

# How long a worker works before it is killed, and how long its successor may take; seconds.
_SHORTEST, _LONGEST = 1.0, 3.0
_RETURN = 60.0


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    kills: int
    outage: float
    rate: float
    connections: int
    contacts: int
    settle: float
    sink: str
    seed: int
    limit: float
    json: Path | None


class Told(msgspec.Struct, frozen=True):
    """What became of the hits under one kind of trouble."""

    seconds: float
    sent: int
    answered: int
    failed: int  # a connection that ended with its worker, or an answer of 400 and above
    p99_ms: float
    max_ms: float
    lost: int  # answered, and not in Postgres
    doubled: int
    ingest_behind_s: float  # after the load
    fold_behind_s: float  # and from then on, until nothing waited to be judged
    answers: int  # first opens and clicks that were folded, those of before included
    misfolded: int  # people of whom a replay says something else


class Report(msgspec.Struct, frozen=True):
    """What --json writes. benchmarks/README.md says how each figure is taken."""

    kills: int
    outage_s: float
    under_kills: Told | None
    under_outage: Told | None
    rate: float
    connections: int
    load_before: float
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print a line, write the JSON. A Problem is one line and its exit code."""
    plan = _plan()
    finish(
        "stress",
        measure(plan),
        limit=plan.limit,
        json=plan.json,
        line=lambda report: "; ".join(
            f"{what}: {told.answered:,} of {told.sent:,} answered, lost {told.lost}, doubled {told.doubled}, "
            f"folded wrongly {told.misfolded}"
            for what, told in (
                (f"{report.kills} kills", report.under_kills),
                (f"{report.outage_s:g} s without Postgres", report.under_outage),
            )
            if told
        ),
        good=lambda report: (
            not any(
                told.lost or told.doubled or told.misfolded
                for told in (report.under_kills, report.under_outage)
                if told
            )
            and not (report.under_outage and report.under_outage.failed)
        ),
    )


def _plan() -> Plan:
    parser = command_line("stress", __doc__, limit=1800)
    parser.add_argument("--kills", type=int, default=20, help="how often the worker is killed; 0: never")
    parser.add_argument("--outage", type=float, default=60, help="seconds for which Postgres is stopped; 0: never")
    parser.add_argument("--rate", type=float, default=5000, help="hits a second")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--contacts", type=int, default=5_000, help="mails that are sent first, two addresses each")
    parser.add_argument("--settle", type=float, default=5, help="seconds of the stream's settle window")
    parser.add_argument("--sink", choices=("smtp-sink", "lab"), default="smtp-sink", help="takes those mails")
    found = parser.parse_args()
    if min(found.contacts, found.connections, found.rate) < 1:
        parser.error("--contacts, --connections, --rate: at least 1")
    if min(found.kills, found.outage, found.settle) < 0 or not (found.kills or found.outage):
        parser.error("--kills, --outage, --settle: not below 0, and one of the first two above")
    return Plan(**vars(found))


async def measure(plan: Plan) -> Report:
    """One run from an empty folder; Problem when it cannot be finished."""
    if plan.sink == "smtp-sink":
        smtp_sink_program()
    load_before = os.getloadavg()[0]
    draw = random.Random(plan.seed)
    async with installed(1) as place, place.connected() as pool:
        # A server that nobody starts again but us.
        paths, _ = await mails_to_open(
            place, pool, contacts=plan.contacts, sink=plan.sink, draw=draw, database=place.postgres.url
        )
        await set_window(place, plan.settle)
        async with aiohttp.ClientSession() as http:
            port = await until_it_answers(place, http)
        version = await pool.fetchval("show server_version")
        # Addresses of its own for each: what was answered before earns nothing again, whatever happens to it.
        first, second = _halves(paths)
        kills = await _under_kills(plan, place, pool, port, first, draw) if plan.kills else None
        outage = await _under_outage(plan, place, pool, port, second) if plan.outage else None
    return Report(
        kills=plan.kills,
        outage_s=plan.outage,
        under_kills=kills,
        under_outage=outage,
        rate=plan.rate,
        connections=plan.connections,
        load_before=round(load_before, 2),
        command=sys.argv[1:],
        machine=machine(version),
    )


def _halves(paths: Path) -> tuple[Path, Path]:
    every = paths.read_text(encoding="ascii").split()
    halves = paths.with_suffix(".kills"), paths.with_suffix(".outage")
    for number, half in enumerate(halves):
        write_paths(half, every[number::2])
    return halves


async def _under_kills(plan: Plan, place: Place, pool: Pool, port: int, paths: Path, draw: random.Random) -> Told:
    say(f"{plan.rate:,.0f} hits a second, and {plan.kills} times kill -9 of the worker")
    async with hitting(port, paths, rate=plan.rate, connections=plan.connections, mark=_KILLS) as process:
        for number in range(plan.kills):
            await asyncio.sleep(draw.uniform(_SHORTEST, _LONGEST))
            workers = place.started()
            os.kill(workers[-1], signal.SIGKILL)
            began = time.monotonic()
            while len(place.started()) == len(workers):
                if time.monotonic() - began > _RETURN:
                    raise Problem(f"no worker came back after kill {number + 1}: see {place.installation.log_path}")
                await asyncio.sleep(0.05)
        await asyncio.sleep(_SHORTEST)
        outcome = await outcome_of(process)
    return await _told(pool, outcome, _KILLS)


async def _under_outage(plan: Plan, place: Place, pool: Pool, port: int, paths: Path) -> Told:
    say(f"{plan.rate:,.0f} hits a second, and Postgres stopped for {plan.outage:g} s")
    async with hitting(port, paths, rate=plan.rate, connections=plan.connections, mark=_OUTAGE) as process:
        await asyncio.sleep(_SHORTEST)
        await asyncio.to_thread(place.postgres.stop)
        await asyncio.sleep(plan.outage)
        await asyncio.to_thread(place.postgres.start)
        await asyncio.sleep(_SHORTEST)
        outcome = await outcome_of(process)
    place.started()  # or nobody survived it
    return await _told(pool, outcome, _OUTAGE)


async def _told(pool: Pool, outcome: Outcome, mark: int) -> Told:
    behind = await until_ingested(pool, datetime.now(UTC))
    ingested = time.monotonic()
    await until_folded(pool)
    fold_behind = time.monotonic() - ingested
    found, made = await noted(pool, mark), await folded(pool)
    return Told(
        seconds=round(outcome.seconds, 1),
        sent=outcome.sent,
        answered=outcome.answered,
        failed=len(outcome.failed),
        p99_ms=outcome.p99_ms,
        max_ms=outcome.max_ms,
        lost=found.lost(outcome),
        doubled=found.doubled,
        ingest_behind_s=round(behind, 2),
        fold_behind_s=round(fold_behind, 2),
        answers=made.answers,
        misfolded=made.wrong,
    )


if __name__ == "__main__":
    main()
