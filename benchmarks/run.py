"""The steps of a run: import, then send with `mtad run` while what it uses is watched."""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import msgspec

from benchmarks import gauges
from benchmarks.mailing import CAMPAIGN, STREAM
from benchmarks.place import Place
from benchmarks.sinks import Receiver
from mtad.base.db import Pool
from mtad.base.errors import Problem

# How often /metrics is asked; at the end twice as late does not matter, for the ledger has the times.
_PERIOD = 2.0

# Between two lines of progress, where each is a line in a file.
_QUIET = 10.0

_STATE = "select status::text, why, exists (select from job) as queued from program where name = $1"
_WAL = "select pg_wal_lsn_diff(pg_current_wal_lsn(), $1::text::pg_lsn)::bigint"


class Used(msgspec.Struct, frozen=True):
    """What a send took, from the workers' first job to the last settled row."""

    cpu: Mapping[str, float | None]  # seconds
    wal_bytes: int
    rss_mb_peak: float  # of the biggest worker
    pages: list[str]  # /metrics of each worker


def say(text: str) -> None:
    """Progress, on stderr; on a terminal each takes the place of the one before."""
    end = "\033[K\r" if sys.stderr.isatty() else "\n"
    sys.stderr.write(text + end)
    sys.stderr.flush()


async def timed(place: Place, *command: str) -> float:
    """Seconds that a command of mtad takes as a process, its start and its connection included."""
    began = time.perf_counter()
    await place.installation.command(*command)
    return time.perf_counter() - began


async def import_people(place: Place, people: Path, files: Sequence[tuple[str, Path]]) -> tuple[float, int]:
    """Apply stream and program, import people in between; how long the import took, and the bytes of one message."""
    (stream, stream_file), (program, program_file) = files
    await place.installation.command(stream, "apply", str(stream_file))
    took = await timed(
        place, "contacts", "import", str(people), "--stream", STREAM, "--basis", "consent", "--source", "benchmark"
    )
    await place.installation.command(program, "apply", str(program_file))
    preview = place.folder / "preview"
    await place.installation.command(program, "preview", CAMPAIGN, "--dir", str(preview))
    (message,) = preview.glob("*.eml")
    return took, message.stat().st_size


async def send_all(place: Place, pool: Pool, receiver: Receiver, contacts: int, *, signed: bool) -> Used:
    """Start `mtad run` on a queue that is full, and wait until it is empty; Problem when the program pauses itself."""
    lsn = await pool.fetchval("select pg_current_wal_lsn()::text")
    postmaster = place.postmaster
    postgres, sink = gauges.tree_cpu(postmaster), receiver.cpu()
    await place.start("" if signed else "signature")
    workers = await _workers_at_work(place)
    say(f"sending, workers {' '.join(map(str, workers))}")
    async with aiohttp.ClientSession() as http:
        await _until_settled(place, pool, http, contacts)
        cpu = {
            "mtad": sum(gauges.tree_cpu(pid) - start for pid, start in workers.items()),
            "postgres": gauges.tree_cpu(postmaster) - postgres,
            "sink": None if sink is None else (receiver.cpu() or 0.0) - sink,
        }
        return Used(
            cpu=cpu,
            wal_bytes=await pool.fetchval(_WAL, lsn),
            rss_mb_peak=max(map(gauges.peak_rss_mb, workers)),
            pages=await place.metrics(http),
        )


async def _workers_at_work(place: Place) -> dict[int, float]:
    """Pid of each worker → CPU seconds that its start took, which are not the messages'.

    A worker works as soon as it has said that it started, and is asked 10 ms later at most.
    """
    found: dict[int, float] = {}
    while len(found) < place.workers:
        for pid in place.started():
            if pid not in found:
                found[pid] = gauges.tree_cpu(pid)
        await asyncio.sleep(0.01)
    return found


async def _until_settled(place: Place, pool: Pool, http: aiohttp.ClientSession, contacts: int) -> None:
    """Return when nothing is queued any more.

    Until the workers' own counters say that it may be so, or stand still, the database
    is not asked: looking through a queue twice a second would be load of its own.
    """
    began = said = time.monotonic()
    before = 0.0
    while True:
        place.check()
        try:
            attempts = gauges.total(await place.metrics(http), "mtad_attempts_total")
        except aiohttp.ClientConnectionError:  # the last worker opens its port a moment after it started
            attempts = 0.0
        if sys.stderr.isatty() or time.monotonic() - said > _QUIET:
            said = time.monotonic()
            say(f"{attempts:10,.0f} attempts after {said - began:.1f} s")
        asks = attempts >= contacts or attempts == before
        state = await pool.fetchrow(_STATE, CAMPAIGN) if asks else None
        before = attempts
        if state is not None and state["status"] == "paused":
            raise Problem(f"the campaign has paused itself: {state['why']}")
        if state is not None and not state["queued"]:
            return
        await asyncio.sleep(_PERIOD)
