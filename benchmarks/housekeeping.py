"""The housekeeper's sweeps over the queue, and the audit, each timed alone."""

import time
from collections.abc import Awaitable, Callable

from mtad.base.db import Connection, Pool
from mtad.ops import sites
from mtad.ops.audit import audit
from mtad.queue import advance, store

# Of each sweep; the first one may find its pages on disk.
RUNS = 3

# The program that the audit counts: the first of backlog.sql.
_PROGRAM = "letter-1"


async def timed_sweeps(pool: Pool) -> dict[str, list[float]]:
    """Milliseconds of each run by sweep. The database keeps what they change."""
    found: dict[str, list[float]] = {}
    for name, work in _sweeps(pool).items():
        found[name] = []
        for _ in range(RUNS):
            began = time.perf_counter()
            await work()
            found[name].append((time.perf_counter() - began) * 1000)
    return found


def _sweeps(pool: Pool) -> dict[str, Callable[[], Awaitable[object]]]:
    """As mtad/sweeps.py calls them; and the audit of one program."""

    def with_connection(work: Callable[[Connection], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        async def run() -> object:
            async with pool.acquire() as conn:
                return await work(conn)

        return run

    async def label_jobs() -> int:
        return await sites.label_jobs(pool)

    async def finish_programs() -> int:
        return await advance.finish(pool)

    return {
        "refresh_hints": with_connection(store.refresh_hints),
        "wake_proven": with_connection(store.wake_proven),
        "label_jobs": label_jobs,
        "finish_programs": finish_programs,
        "audit": with_connection(lambda conn: audit(conn, _PROGRAM)),
    }
