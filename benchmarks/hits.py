"""Hits on mails that were really sent: their addresses, the process that asks for them, and what Postgres has then."""

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from ipaddress import IPv6Address
from pathlib import Path

import aiohttp
import msgspec

from benchmarks.openloop import PATIENCE, READY, Outcome
from benchmarks.place import Place
from benchmarks.wrk import Flood
from mtad.base.db import Pool
from mtad.base.errors import Problem
from tracker.tokens import Keys, Purpose, click_url, link_token, pixel_url

# How long ingest may take to catch up with the journal.
CATCH_UP = 120.0

_TRACKED = """
select l.job_id, k.id, k.position
  from (select job_id, message_id from ledger where outcome = 'delivered' order by job_id limit $1) l
  join message_link k on k.message_id = l.message_id and k.tracked
 order by l.job_id, k.position
"""
_INGESTED = "select coalesce(min(ingested_until), '-infinity') > $1 from worker where dead is null"
# Mark and number of a request are the network that it says it comes from: fd01:2:3::/48 is 0x20003 of mark 1.
# A hit is in pending until it is judged, and in event from then on; a person's on a mail in doubt is in both.
_NETWORKS = """
select network, count(*) as n
  from (select data ->> 'network' as network from event
        union all
        select network::text from pending where class is null) h
 where network like $1
 group by 1
"""


class Noted(msgspec.Struct, frozen=True):
    """What Postgres has of the requests with one mark: number → rows."""

    rows: dict[int, int]

    @property
    def doubled(self) -> int:
        """Rows beyond the first of a request."""
        return sum(self.rows.values()) - len(self.rows)

    def lost(self, outcome: Outcome) -> int:
        """Requests that were answered and have no row."""
        failed = set(outcome.failed)
        return sum(number not in self.rows and number not in failed for number in range(1, outcome.sent + 1))

    def surely_lost(self, flood: Flood) -> int:
        """Of a closed loop: missing and too old to have been on the wire at its end, or more than were on it."""
        missing = [number for number in range(1, flood.sent + 1) if number not in self.rows]
        old = sum(number <= flood.sent - flood.under_way for number in missing)
        return old + max(0, len(missing) - old - (flood.sent - flood.answered))


async def hit_paths(pool: Pool, keys: Keys, *, mails: int, draw: random.Random) -> list[str]:
    """The pixel and one link of each of so many delivered mails, shuffled."""
    by_job: dict[int, list[tuple[int, int]]] = {}
    for job, link, position in await pool.fetch(_TRACKED, mails):
        by_job.setdefault(job, []).append((position, link))
    paths = []
    for job, links in by_job.items():
        clicks = [link for position, link in links if position]
        paths += [pixel_url("", link_token(keys, Purpose.OPEN, job, link)) for position, link in links if not position]
        if clicks:
            paths.append(click_url("", link_token(keys, Purpose.CLICK, job, draw.choice(clicks))))
    if not paths:
        raise Problem("no mail was delivered that anybody could open")
    draw.shuffle(paths)
    return paths


def write_paths(file: Path, paths: Sequence[str]) -> None:
    """A path a line, as wrk's script and the open loop read them."""
    file.write_text("\n".join(paths) + "\n", encoding="ascii")


@contextlib.asynccontextmanager
async def hitting(
    port: int, paths: Path, *, rate: float, connections: int, mark: int
) -> AsyncIterator["asyncio.subprocess.Process"]:
    """Hits arrive from the start of the block; `outcome_of` the process ends them and tells what became of them."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.openloop", f"--port={port}", f"--paths={paths}", f"--rate={rate}",
        f"--connections={connections}", f"--mark={mark}", f"--outcome={paths}.{mark}",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if await process.stdout.readline() != READY.encode():
            raise Problem(f"benchmarks.openloop: exit {await process.wait()}")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def outcome_of(process: "asyncio.subprocess.Process") -> Outcome:
    """Stop the hits and return what became of them."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    stdout, _ = await asyncio.wait_for(process.communicate(), 2 * PATIENCE + 10)
    if process.returncode:
        raise Problem(f"benchmarks.openloop: exit {process.returncode}")
    # By a file: it names each request that failed, and of 140 kB a pipe once gave 128.
    file = Path(stdout.decode().strip())
    return msgspec.json.decode(await asyncio.to_thread(file.read_bytes), type=Outcome)


async def until_it_answers(place: Place, http: aiohttp.ClientSession) -> int:
    """Wait until the tracker serves; its port."""
    port = int(place.installation.config.tracker.listen.rpartition(":")[2])
    while True:
        place.started()
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with http.get(f"http://127.0.0.1:{port}/healthz") as answer:
                if answer.status == 200:
                    return port
        await asyncio.sleep(0.05)


async def until_ingested(pool: Pool, asked_until: datetime) -> float:
    """Wait until all that was heard before a moment is in Postgres; the seconds it took. Problem when it never is."""
    began = time.monotonic()
    while not await pool.fetchval(_INGESTED, asked_until):
        if time.monotonic() - began > CATCH_UP:
            raise Problem(f"ingest is still behind after {CATCH_UP:g} s")
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def noted(pool: Pool, mark: int) -> Noted:
    """What is in Postgres of the requests with this mark."""
    rows = await pool.fetch(_NETWORKS, f"fd{mark:02x}:%")
    return Noted({number_of(row["network"]): row["n"] for row in rows})


def number_of(network: str) -> int:
    """The number of the request that came from there."""
    return int(IPv6Address(network.removesuffix("/48"))) >> 80 & 0xFFFF_FFFF
