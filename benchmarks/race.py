"""``python -m benchmarks.race``: nobody's mail begins after the commit by which they became ineligible.

While the workers empty a full queue, people in it become ineligible in eleven ways, each at about
the turn of their own mail. Postgres' commit times say which came first, and the receiver when each
DATA came. With --unfenced begin does not compare what the verdict was made by: then it must show.
"""

import asyncio
import heapq
import os
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import msgspec

from benchmarks.entry import command_line, finish, machine
from benchmarks.hits import until_it_answers
from benchmarks.place import Place, installed
from benchmarks.race_sink import RaceSink, race_sink
from benchmarks.race_told import Found, Round, together, told
from benchmarks.race_ways import DOMAIN, TOGETHER, WAYS, Person, Ways
from benchmarks.race_world import set_up
from benchmarks.run import say
from mtad.base.db import Pool
from mtad.compose.preview import tracking_keys

SETTINGS = {"track_commit_timestamp": "on"}

# By how much of the queue an act comes before or after the turn of the mail, in turn.
_AROUND = (0.0, -0.02, 0.02, -0.2, 0.2)

# No act waits for more mails than this share of those that are sent for certain.
_LAST = 0.95

# The workers are never further ahead of the acts than by this share of the queue, and the sessions.
_AHEAD = 0.05

# Acts under way at once.
_BESIDE = 32

# Between two looks at whether something has happened, seconds.
_LOOK = 0.02

_HAPPENED = "select exists (select from race_fact where contact_id = $1)"
_BEGUN = "select exists (select from race_begin where contact_id = $1)"
_QUEUED = "select exists (select from job where program_id not in (select id from program where status = 'paused'))"


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    contacts: int
    ineligible: int
    rounds: int
    workers: int
    sites: int
    sessions: int
    unfenced: bool
    seed: int
    limit: float
    json: Path | None


class Report(msgspec.Struct, frozen=True):
    """What --json writes. benchmarks/README.md says how each figure is taken."""

    contacts: int
    ineligible: int
    violations: int
    late: int
    early: int
    ways: Mapping[str, Found]  # over all rounds
    rounds: Sequence[Round]
    load_before: float
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print a line, write the JSON. A Problem is one line and its exit code."""
    plan = _plan()
    finish(
        "race",
        measure(plan),
        limit=plan.limit,
        json=plan.json,
        line=lambda report: (
            f"{len(report.rounds)} rounds, {sum(way.disqualified for way in report.ways.values()):,} disqualified "
            f"({sum(way.in_hand for way in report.ways.values()):,} in a worker's hand), "
            f"{report.violations} begins after that, {report.late} DATA too late, {report.early} too early"
        ),
        good=lambda report: (
            not (report.violations or report.late or report.early)
            and all(way.disqualified and way.sent for way in report.ways.values())
        ),
    )


def _plan() -> Plan:
    parser = command_line("race", __doc__, limit=1800)
    parser.add_argument("--contacts", type=int, default=20_000, help="mails queued in each round")
    parser.add_argument("--ineligible", type=int, default=2_000, help="of whom so many become ineligible")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sites", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=10, help="connections to one site, over all workers")
    parser.add_argument("--unfenced", action="store_true", help="break begin: what it would look like")
    found = parser.parse_args()
    if min(found.rounds, found.workers, found.sites, found.sessions) < 1:
        parser.error("--rounds, --workers, --sites, --sessions: at least 1")
    if not len(WAYS) <= found.ineligible <= found.contacts // 2:
        parser.error(f"--ineligible: {len(WAYS)} to half of --contacts, is {found.ineligible}")
    return Plan(**vars(found))


async def measure(plan: Plan) -> Report:
    """All rounds, each from an empty folder; Problem when one cannot be finished."""
    load_before = os.getloadavg()[0]
    rounds = []
    for number in range(1, plan.rounds + 1):
        async with installed(plan.workers, settings=SETTINGS) as place, place.connected(len(WAYS)) as pool:
            rounds.append(await one_round(plan, place, pool, random.Random(f"{plan.seed} {number}")))
            version = await pool.fetchval("show server_version")
        last = rounds[-1]
        say(
            f"round {number}: {sum(way.disqualified for way in last.ways.values()):,} disqualified, "
            f"{sum(way.violations for way in last.ways.values())} violations, {last.rate:,.0f} mails a second"
        )
    return Report(
        contacts=plan.contacts,
        ineligible=plan.ineligible,
        violations=sum(way.violations for one in rounds for way in one.ways.values()),
        late=sum(one.late for one in rounds),
        early=sum(one.early for one in rounds),
        ways={way: together([one.ways[way] for one in rounds]) for way in WAYS},
        rounds=rounds,
        load_before=round(load_before, 2),
        command=sys.argv[1:],
        machine=machine(version),
    )


async def one_round(plan: Plan, place: Place, pool: Pool, draw: random.Random, *, database: str = "") -> Round:
    """Fill the queue of an empty installation, race, and look who came first. `database` as of Place.configure."""
    domains = [f"d{number}.example.net" for number in range(plan.sites)]
    async with race_sink(plan.sites) as sink, aiohttp.ClientSession() as http:
        routes = list(zip([*domains, DOMAIN], [*sink.addresses, sink.addresses[0]], strict=True))
        place.configure(routes, sessions=plan.sessions, database=database)
        series, people = await set_up(
            place, pool, contacts=plan.contacts, ineligible=plan.ineligible, domains=domains, draw=draw
        )
        await place.start("fence" if plan.unfenced else "")
        port = await until_it_answers(place, http)
        ways = Ways(place, pool, http, f"http://127.0.0.1:{port}", series)
        await _race(plan, place, pool, sink, ways, people, {domain: port for domain, (_, port) in routes})
        await place.stop()
    return await told(pool, tracking_keys(place.installation.config), sink.data)


async def _race(
    plan: Plan,
    place: Place,
    pool: Pool,
    sink: RaceSink,
    ways: Ways,
    people: Sequence[Person],
    ports: Mapping[str, int],
) -> None:
    """Each act as soon as so many mails are through, until the queue is empty; `ports` by domain."""
    acts = _acts(people, plan.contacts - plan.ineligible)
    ahead = round(_AHEAD * plan.contacts)
    undone = [mails for mails, *_ in acts]  # a heap of those that are; `done` is taken out when it is the first
    done: Counter[int] = Counter()
    places = asyncio.Semaphore(_BESIDE)

    async def until(happened: str, person: Person) -> None:
        while not await pool.fetchval(happened, person.id):
            await asyncio.sleep(_LOOK)
            sink.nudge(ports[person.key.partition("@")[2]])

    async def run(mails: int, person: Person, after_theirs: bool) -> None:
        await sink.reached(mails)
        if after_theirs:
            await until(_BEGUN, person)
        async with places:
            await ways.act(person)
        await until(_HAPPENED, person)
        done[mails] += 1
        while undone and done[undone[0]]:
            done[heapq.heappop(undone)] -= 1
        if not undone:
            sink.allow(2 * plan.contacts)
        elif undone[0]:  # nobody is answered before those who act first have
            sink.allow(undone[0] + ahead)

    try:
        async with asyncio.TaskGroup() as group:
            for mails, person, after_theirs in acts:
                group.create_task(run(mails, person, after_theirs))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    while await pool.fetchval(_QUEUED):
        place.check()
        await asyncio.sleep(0.05)


def _acts(people: Sequence[Person], through: int) -> list[tuple[int, Person, bool]]:
    """(after how many mails, of whom, and after their own), in order: around each one's turn.

    Of each way the first in the queue comes last, after its own mail, and the last one before any,
    so that some are too late for certain and some in time. Of those who go together the first acts, in the middle.
    """
    found: list[tuple[int, Person, bool]] = []
    for way in WAYS:
        its = [person for person in people if person.way == way]
        turns = [person.turn + _AROUND[n % len(_AROUND)] for n, person in enumerate(its)]
        turns[0], turns[-1] = 1.0, 0.0
        if way in TOGETHER:
            its, turns = its[:1], [0.5]
        found += [
            (round(through * min(max(turn, 0.0), _LAST)), person, person is its[0])
            for turn, person in zip(turns, its, strict=True)
        ]
    return sorted(found, key=lambda act: act[0])


if __name__ == "__main__":
    main()
