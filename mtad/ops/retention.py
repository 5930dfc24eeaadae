"""How long what is kept: the sweeps that keep to the terms of [privacy], and the table that shows them.

Everything that names or could name a person has a line in `KINDS`; mtad/ops/README.md is
made to say the same by a test.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec

from mtad.audience import rejects
from mtad.audience.forgetting import Forgetter
from mtad.audience.persons import erase_leftovers, read_suppression_key
from mtad.base.clock import Clock
from mtad.base.config import Config
from mtad.base.db import AWAY, Connection, Pool, in_transaction
from mtad.base.errors import ConfigError
from mtad.base.sqlfiles import queries
from mtad.ops.housekeeper import SWEPT

SQL = queries("privacy")

log = logging.getLogger("mtad.retention")

NOBODY = UUID(int=0)

# The sweep of files.
FILES = "retention: rejects"
HOUR = 3600.0


class Kind(msgspec.Struct, frozen=True):
    """One kind of data: what it is, how long it is kept, and what ends it."""

    data: str
    term: str  # a key of [privacy], or words
    then: str
    sweep: str  # its name; '' where the term needs none
    tables: tuple[str, ...] = ()  # in which it stands


KINDS = (
    Kind("agent and network of hits", "hits", "removed, or when their person withdraws; class and reasons stay",
         "retention: hits", ("event",)),
    Kind("hits and page views that wait to be judged", "seconds; on mail that is queued, until it has ended",
         "events or counts, or nothing", "ripen hits", ("pending", "visit")),
    Kind("events, counts of hits", "events", "deleted", "retention: events", ("event", "hit_count")),
    Kind("the day of the last open (mode hygiene)", "the subscription", "overwritten by the next open", "",
         ("subscription",)),
    Kind("ids of counted hits (they name nobody)", "8 days", "deleted", "retention: counted", ("hit_counted",)),
    Kind("keys of events that servers told", "31 days", "deleted", "retention: keys", ("event_key",)),
    Kind("journal", "until ingested, and a minute", "deleted", "ingest"),
    Kind("segments of the journal put aside", "rejects", "deleted, on each machine", FILES),
    Kind("FILE.rejects.csv of imports", "rejects", "deleted, on each machine; lines of who is erased sooner", FILES,
         ("rejects_file",)),
    Kind("proofs of consent, confirmed", "proofs", "deleted; counted from the end of the consent", "retention: proofs",
         ("proof",)),
    Kind("who signed up and did not confirm", "7 days", "deleted", "forget unconfirmed", ("proof", "contact")),
    Kind("addresses from which forms are used", "until used as rarely as others, 10 minutes", "deleted",
         "forget unconfirmed", ("form_use",)),
    Kind("contact, identities, subscription, state, transitions, entries, queued mail, answers, ledger", "the contact",
         "`mtad contact erase`; ledger and entries stay as counts of nobody", "erase leftovers",
         ("contact", "identity", "gate", "subscription", "engagement", "engagement_base", "transition", "entry",
          "enrolled", "job", "job_data", "answer", "ledger")),
    Kind("contacts whom each of their streams forgets (`forget_after`, off)",
         "since they left, or were last heard of or mailed", "as by `mtad contact erase`", "retention: forget",
         ("contact",)),
    Kind("suppressed addresses (bounced, complained, by hand), also of who is no contact",
         "while they are suppressed", "`mtad contact erase` leaves a keyed hash", "", ("suppression",)),
    Kind("addresses that were suppressed", "events", "deleted; counted from their release, or from a bounce's end",
         "retention: suppressions", ("suppression",)),
    Kind("addresses that were erased", "for ever", "only a keyed hash is kept, also in state/erased.hashes", "",
         ("suppression",)),
    Kind("log lines", "journald's", "no address at INFO", ""),
    Kind('lines of `log_outcomes = "addresses"`', "yours: they go where you lead them", "whole addresses", ""),
)  # fmt: skip


class Swept(msgspec.Struct, frozen=True):
    """What a sweep removed."""

    sweep: str
    removed: int


def sweeps(pool: Pool, config: Config) -> dict[str, Callable[[], Awaitable[int]]]:
    """Each sweep of the database by its name; it returns how many rows it removed, and may be run at any time."""
    terms = config.privacy.terms
    return {
        "retention: hits": Stripper(pool, terms["hits"]).run,
        "retention: events": partial(drop_events, pool, terms["events"]),
        "retention: counted": partial(_changed, pool, "drop_counted"),
        "retention: keys": partial(_changed, pool, "drop_keys"),
        "retention: suppressions": partial(_changed, pool, "drop_suppressions", terms["events"]),
        "retention: proofs": partial(drop_proofs, pool, terms["proofs"]),
        "retention: forget": Forgetter(pool, config).run,
        "erase leftovers": partial(erase_leftovers, pool),
    }


async def apply(pool: Pool, config: Config) -> list[Swept]:
    """Run every sweep until it finds nothing more, and that of this machine's files."""
    done = []
    for name, sweep in {**sweeps(pool, config), FILES: Files(pool, config).run}.items():
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


class Files:
    """Files that only their own machine can remove: those of rejects, and segments of the journal put aside.

    Both go when they are old. Before, lines of who was erased from another machine leave files of rejects.
    """

    def __init__(self, pool: Pool, config: Config) -> None:
        self._pool = pool
        self._config = config
        self._cleaned: datetime | None = None  # of who was erased before, nothing is left here

    async def run(self) -> int:
        """How many files were removed or changed."""
        term = self._config.privacy.terms["rejects"]
        removed = await asyncio.to_thread(_drop_segments, self._config.state / "journal", term.total_seconds())
        return removed + await rejects.drop_old(self._pool, term) + await self._clean()

    async def _clean(self) -> int:
        now: datetime = await self._pool.fetchval("select now()")
        try:
            key = read_suppression_key(self._config)
        except ConfigError:
            return 0  # nobody was erased, or nobody can say who; `mtad check` does
        changed = await rejects.take_lines_of_erased(self._pool, key, self._cleaned)
        self._cleaned = now
        return changed


async def tend_files(pool: Pool, config: Config, clock: Clock) -> None:
    """Each hour, until cancelled. One worker of every machine does it."""
    files = Files(pool, config)
    while True:
        try:
            SWEPT.labels(sweep=FILES).inc(await files.run())
        except AWAY as error:
            log.warning("old files stay for another hour", extra={"why": str(error) or type(error).__name__})
        except Exception:
            log.exception("old files stay for another hour")
        await clock.sleep(HOUR)


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
