"""How long what is kept: the sweeps that keep to the terms of [privacy], and the table that shows them.

Everything that names or could name a person has a line in `KINDS`; mtad/ops/README.md is
made to say the same by a test.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec

from mtad.audience.persons import erase_leftovers
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.sqlfiles import queries

SQL = queries("privacy")

log = logging.getLogger("mtad.retention")

NOBODY = UUID(int=0)


class Kind(msgspec.Struct, frozen=True):
    """One kind of data: what it is, how long it is kept, and what ends it."""

    data: str
    term: str  # a key of [privacy], or words
    then: str
    sweep: str  # its name; '' where the term needs none


KINDS = (
    Kind("agent and network of hits", "hits", "removed; class and reasons stay", "retention: hits"),
    Kind("events, counts of hits", "events", "deleted", "retention: events"),
    Kind("the day of the last open (mode hygiene)", "the subscription", "overwritten by the next open", ""),
    Kind("ids of counted hits (they name nobody)", "7 days", "deleted", "retention: counted"),
    Kind("keys of events that servers told", "31 days", "deleted", "retention: keys"),
    Kind("journal", "until ingested, and a minute", "deleted", "ingest"),
    Kind("segments of the journal put aside", "rejects", "deleted", "retention: rejects"),
    Kind("FILE.rejects.csv of imports", "rejects", "deleted", "retention: rejects"),
    Kind("proofs of consent, confirmed", "proofs", "deleted; counted from the end of the consent", "retention: proofs"),
    Kind("who signed up and did not confirm", "7 days", "deleted", "forget unconfirmed"),
    Kind("addresses from which forms are used", "until used as rarely as others, 10 minutes", "deleted",
         "forget unconfirmed"),
    Kind("contact, identities, subscription, state, transitions, entries, queued mail, answers, ledger", "the contact",
         "`mtad contact erase`; ledger and entries stay as counts of nobody", "erase leftovers"),
    Kind("addresses that were erased", "for ever", "only a keyed hash is kept, also in state/erased.hashes", ""),
    Kind("log lines", "journald's", "no address at INFO", ""),
)  # fmt: skip


class Swept(msgspec.Struct, frozen=True):
    """What a sweep removed."""

    sweep: str
    removed: int


def sweeps(pool: Pool, config: Config) -> dict[str, Callable[[], Awaitable[int]]]:
    """Each sweep by its name; it returns how many rows or files it removed, and may be run at any time."""
    terms = config.privacy.terms
    return {
        "retention: hits": Stripper(pool, terms["hits"]).run,
        "retention: events": partial(drop_events, pool, terms["events"]),
        "retention: counted": partial(_changed, pool, "drop_counted"),
        "retention: keys": partial(_changed, pool, "drop_keys"),
        "retention: rejects": partial(drop_files, pool, config.state, terms["rejects"]),
        "retention: proofs": partial(drop_proofs, pool, terms["proofs"]),
        "erase leftovers": partial(erase_leftovers, pool),
    }


async def apply(pool: Pool, config: Config) -> list[Swept]:
    """Run every sweep until it finds nothing more."""
    done = []
    for name, sweep in sweeps(pool, config).items():
        removed = 0
        while more := await sweep():
            removed += more
        done.append(Swept(name, removed))
    return done


class Stripper:
    """Takes agent and network from hits older than `term`; `run` says from how many.

    Ids of events rise with time, so it goes on where it stopped; a new process begins at the
    oldest event, and reads what was stripped once.
    """

    def __init__(self, pool: Pool, term: timedelta) -> None:
        self._pool = pool
        self._term = term
        self._after = NOBODY

    async def run(self) -> int:
        """Up to the term of now, a page of 5,000 a transaction."""
        async with self._pool.acquire() as conn:
            last = await conn.fetchval(SQL["last_id_before"], self._term)
        stripped = 0
        while True:
            page, changed = await in_transaction(self._pool, partial(_strip_page, after=self._after, last=last))
            stripped += changed
            if page is None:
                return stripped
            self._after = page


async def _strip_page(conn: Connection, *, after: UUID, last: UUID) -> tuple[UUID | None, int]:
    row = await conn.fetchrow(SQL["strip_hits"], after, last)
    assert row is not None
    return row[0], row[1]


async def drop_events(pool: Pool, term: timedelta) -> int:
    """Delete events of calendar months that ended before `term`, and counts as old; how many."""
    async with pool.acquire() as conn:
        old = [row[0] for row in await conn.fetch(SQL["old_event_partitions"], term)]
        removed = 0
        for name in old:
            # Not dropped: a journal that is read late still finds its place. Nobody reads rows as old.
            removed += await conn.fetchval(f'select count(*) from "{name}"')  # noqa: S608 - a name of pg_class
            await conn.execute(f'truncate "{name}"')
        await conn.execute(SQL["drop_unreached"], term)
        return removed + int(await conn.fetchval(SQL["drop_old_counts"], term))


async def drop_files(pool: Pool, state: Path, term: timedelta) -> int:
    """Delete this machine's files of rejects, and segments put aside, that are older than `term`; how many."""
    removed = await asyncio.to_thread(_drop_segments, state / "journal", term.total_seconds())
    host = socket.gethostname()
    async with pool.acquire() as conn:
        for (path,) in await conn.fetch(SQL["old_rejects_files"], host, term):
            try:
                await asyncio.to_thread(Path(path).unlink, missing_ok=True)
            except OSError as error:
                # In somebody's home, where the service may not go: `mtad retention apply` may.
                log.warning("a file of rejects is too old", extra={"path": path, "why": error.strerror})
                continue
            await conn.execute(SQL["drop_rejects_file"], host, path)
            removed += 1
    return removed


def _drop_segments(journal: Path, term: float) -> int:
    removed = 0
    for path in journal.glob("*/*.bad"):
        if time.time() - path.stat().st_mtime > term:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


async def drop_proofs(pool: Pool, term: timedelta) -> int:
    """Note whose consent is over since when, and delete proofs `term` later; how many were deleted."""
    async with pool.acquire() as conn:
        await conn.execute(SQL["end_proofs"])
    return await _changed(pool, "drop_proofs", term)


async def _changed(pool: Pool, query: str, *arguments: object) -> int:
    async with pool.acquire() as conn:
        status = await conn.execute(SQL[query], *arguments)
    return int(status.rpartition(" ")[2])
