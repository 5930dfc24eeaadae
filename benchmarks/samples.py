"""What a running installation looks like at one moment: memory, queue, tables, dead rows, event loop."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import msgspec

from benchmarks import gauges
from benchmarks.place import Place
from mtad.base.db import Pool

# Partitions count with their table. Dead rows are the statistics' estimate, as autovacuum sees them.
_TABLES = """
select coalesce(p.relname, c.relname)::text as name, sum(pg_total_relation_size(c.oid))::bigint as bytes,
       sum(s.n_dead_tup)::bigint as dead
  from pg_stat_user_tables s
  join pg_class c on c.oid = s.relid
  left join pg_inherits i on i.inhrelid = c.oid
  left join pg_class p on p.oid = i.inhparent
 group by 1
"""
_QUEUED = "select count(*) from job"


class Sample(msgspec.Struct, frozen=True):
    """One look; `lag` is the workers' histogram since their start, added up."""

    at: float  # seconds since the first
    rss_mb: Sequence[float]  # by worker
    queued: int
    table_mb: Mapping[str, float]
    dead_rows: Mapping[str, int]
    lag: dict[float, float]


async def look(at: float, place: Place, pool: Pool, http: aiohttp.ClientSession, workers: Sequence[int]) -> Sample:
    """Take one sample; the workers are asked for their metrics, so it costs each some milliseconds."""
    tables = await pool.fetch(_TABLES)
    return Sample(
        at=at,
        rss_mb=[rss_mb(pid) for pid in workers],
        queued=await pool.fetchval(_QUEUED),
        table_mb={row["name"]: row["bytes"] / 1e6 for row in tables},
        dead_rows={row["name"]: row["dead"] for row in tables},
        lag=gauges.buckets(await place.metrics(http), "mtad_loop_lag_seconds"),
    )


def rss_mb(pid: int) -> float:
    """The memory (VmRSS) that a living process has resident now, in MB of 10^6 bytes."""
    match = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024 / 1e6
