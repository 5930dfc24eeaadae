"""A lane's rate and sessions over two workers, one of them stopped for a while and then killed.

Two witnesses, so that what the machine is busy with excuses nothing. The database: a trigger
notes each begin, and these obey the bucket to the microsecond, for tokens are taken by that
clock and under the lane's lock. The receiver: each copy has a begin of its own, and all that
came within the 50 ms for which a lane keeps tokens in reserve stay within the limit.
The begins also say whether the rate was used: what a lane could take when it was full of tokens
is lost. So long as the kernel had workers wait for a CPU in that very time, nobody could take it.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.place import Place, running_place

pytestmark = pytest.mark.timeout(120)

RATE, BURST, SESSIONS = 50, 5, 8
PEOPLE = 2000  # more than there is time for: the test ends when it has seen enough
SHAPE = f"""
[shape.domain."reader.test"]
max_message_rate = "{RATE}/s,max_burst={BURST}"
connection_limit = {SESSIONS}
"""

# In microseconds, as all times here: between two tokens; of how long the lane keeps the tokens
# in reserve; how far what was taken may be ahead of the clock.
SECOND = 1_000_000
EVERY = SECOND // RATE
RESERVE = SECOND // 20
AHEAD = (BURST - 1) * EVERY - RESERVE

# So many mails say whether the rate is used again.
ENOUGH = 150

NOTES = """
create table note (n bigint generated always as identity, job bigint, worker int, begun timestamptz);
create function note() returns trigger language plpgsql as $$
begin
  insert into note (job, worker, begun) values (old.id, old.worker, case when tg_op = 'UPDATE' then new.begun end);
  return null;
end $$;
create trigger begun after update on job
  for each row when (new.begun is distinct from old.begun) execute function note();
create trigger gone after delete on job for each row when (old.begun is not null) execute function note();
"""
ENOUGH_SINCE = "select count(*) from (select from note where begun > $1 limit $2) x"


class Seen(NamedTuple):
    """A mail when it began, or when it arrived."""

    at: int
    job: int


class Counted(set[Any]):
    """The sink's open connections, and the most there ever were.

    One whose end the kernel knows of is over, though we may not have read so far.
    """

    most = 0

    def add(self, connection: object) -> None:
        self.most = max(self.most, 1 + sum(_established(other) for other in self))
        super().add(connection)


def _established(connection: Any) -> bool:
    try:
        state = connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except OSError:
        return False
    return bool(state[0] == 1)  # TCP_ESTABLISHED


class Starved:
    """For how long processes have waited for a CPU, as the kernel counts it; where it does not, 0."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._seen: list[tuple[int, int]] = []  # when, and how long until then

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                self._look()
                await asyncio.sleep(0.02)

        self._look()
        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            self._look()

    def within(self, since: int, until: int) -> int:
        """Of this time; between two looks it may have been any."""
        before = max(waited for at, waited in self._seen if at <= since)
        after = min(waited for at, waited in self._seen if at >= until)
        return min(after - before, until - since)

    def _look(self) -> None:
        waited = 0
        for pid in self._pids:
            with contextlib.suppress(OSError):
                waited += int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) // 1000
        self._seen.append((time.time_ns() // 1000, waited))


async def test_rate_and_sessions_hold_over_workers_that_stop_and_die_and_are_used(prepared: Path) -> None:
    async with running_place(prepared, rate=1000, shape=SHAPE) as place:
        connections = place.sink._open = Counted()
        await queue_with_refusals(place)
        await place.pool.execute(NOTES)
        workers = await place.workers()
        backends = await place.pool.fetch("select pid from pg_stat_activity where application_name = 'mtad 1'")
        starved = Starved([workers[1], os.getpid(), *(row[0] for row in backends)])
        async with starved.watched():
            await place.mtad("resume", "source", "default")
            await place.until_count("select count(distinct worker) from note", 2)
            stopped = time.time_ns() // 1000
            os.kill(workers[0], signal.SIGSTOP)
            await asyncio.sleep(2.0)  # the promise is about a worker that stands still for so long
            os.kill(workers[0], signal.SIGCONT)
            continued = time.time_ns() // 1000
            await place.sink.wait_for(len(place.sink.messages) + 20)
            await place.kill(workers[0])
            await place.until_count("select count(dead) from worker where pid = $1", 1, workers[0])
            freed = await place.pool.fetchval("select dead from worker where pid = $1", workers[0])
            await place.until_count(ENOUGH_SINCE, ENOUGH, freed, ENOUGH)
            arrived = await arrivals(place)
            begins, most_open = await begun(place)
        refused = await place.pool.fetchval("select count(*) from ledger where outcome = 'skipped'")

    ahead, full = bucket(begins)
    in_time = [copy.at for copy, begin in paired(arrived, begins) if copy.at - begin <= RESERVE]

    back = int(freed.timestamp() * SECOND)

    def used(*spans: tuple[int, int]) -> float:
        lost = [clipped(one, span) for one in full for span in spans]
        idle = sum(until - since - starved.within(since, until) for since, until in lost if since < until)
        return 1 - idle / sum(until - since for since, until in spans)

    assert refused > 0.25 * (refused + len(begins))
    assert ahead <= AHEAD
    assert most_within(SECOND, in_time) <= RATE + BURST
    assert most_open <= SESSIONS
    assert 2 <= connections.most <= SESSIONS
    assert used((begins[0].at, stopped), (continued, begins[-1].at)) >= 0.95
    assert used((stopped, continued)) >= 0.95
    assert used((back, begins[-1].at)) >= 0.95


async def queue_with_refusals(place: Place) -> None:
    """A campaign that waits in the queue; three in ten have been suppressed since, which the gate finds out."""
    people = [f"p{n}@reader.test" for n in range(PEOPLE)]
    await place.import_people(people)
    await place.apply_campaign("news")
    # A lane that is known is not claimed for while it is suspended: then both workers have their share from the start.
    await place.until_count("select count(*) from domain where site_id is not null", 1)
    await place.pool.execute(
        "insert into lane (source, site_id, rate, burst, sessions) select 'default', site_id, $1, $2, $3 from domain",
        RATE, BURST, SESSIONS,
    )  # fmt: skip
    await place.mtad("suspend", "source", "default")
    await place.mtad("program", "start", "news")
    refused = place.write("refused.txt", "\n".join(people[n] for n in range(PEOPLE) if n % 10 < 3))
    await place.mtad("suppress", "import", refused)


async def arrivals(place: Place) -> list[Seen]:
    """The copies that the sink has got so far."""
    copies = [(copy.recipient, int(copy.at.timestamp() * SECOND)) for copy in place.sink.messages]
    rows = await place.pool.fetch("select c.address, e.job_id from enrolled e join contact c on c.id = e.contact_id")
    jobs = {row[0]: row[1] for row in rows}
    return sorted(Seen(at, jobs[address]) for address, at in copies)


async def begun(place: Place) -> tuple[list[Seen], int]:
    """Each begin, and how many mails there ever were at most between begin and the ledger or the queue."""
    begins: list[Seen] = []
    under_way: set[int] = set()
    most = 0
    for job, at in await place.pool.fetch(
        "select job, (extract(epoch from begun) * 1000000)::bigint from note order by n"
    ):
        if at is None:
            under_way.discard(job)
        else:
            begins.append(Seen(at, job))
            under_way.add(job)
            most = max(most, len(under_way))
    return sorted(begins), most


def bucket(begins: Sequence[Seen]) -> tuple[int, list[tuple[int, int]]]:
    """How far ahead of the clock tokens were taken at most, and from when until when none could be added."""
    ahead, full = 0, []
    empty_at = begins[0].at
    for at, _ in begins:
        if empty_at < at:
            full.append((empty_at, at))
            empty_at = at
        ahead = max(ahead, empty_at - at)
        empty_at += EVERY
    return ahead, full


def paired(copies: Sequence[Seen], begins: Sequence[Seen]) -> Iterator[tuple[Seen, int]]:
    """Each copy and when its mail began, the last time before; each begin is good for one."""
    left: dict[int, list[int]] = {}
    for at, job in begins:
        left.setdefault(job, []).append(at)
    for copy in copies:
        its = max(at for at in left[copy.job] if at <= copy.at)
        left[copy.job].remove(its)
        yield copy, its


def clipped(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """What both have in common; upside down where that is nothing."""
    return max(one[0], other[0]), min(one[1], other[1])


def most_within(span: int, times: Sequence[int]) -> int:
    """The most of these, in order, in any such span."""
    first = most = 0
    for last, at in enumerate(times):
        while times[first] <= at - span:
            first += 1
        most = max(most, last - first + 1)
    return most
