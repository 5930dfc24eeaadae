"""Entries from step to step: whose wait is over gets the next mail, or reaches the end.

Set-based, 2,000 at a time. An end locks gates before engagement and entries, so
ends and next mails are two transactions.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from engine.programs import EndNode
from engine.service import Catalogue, end_silent, set_program_status
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.queue import programs, store
from mtad.queue.enqueue import COMMAND_SLOT
from mtad.queue.programs import DueEntry

log = logging.getLogger("mtad.advance")


async def advance(pool: Pool, catalogue: Catalogue, config: Config) -> int:
    """Move due entries on; how many."""
    async with pool.acquire() as conn:
        due = await programs.due_entries(conn)
    if not due:
        return 0
    await catalogue.need(
        {(entry.program_id, entry.version) for entry in due},
        {(entry.stream_id, entry.stream_version) for entry in due},
        catalogue.epoch,
    )
    over = [entry for entry in due if _at_end(catalogue, entry) and entry.heard]
    going = [entry for entry in due if not _at_end(catalogue, entry)]
    if over:
        await in_transaction(pool, lambda conn: _end(conn, over))
    if going:
        await in_transaction(pool, lambda conn: _send_next(conn, catalogue, config, going))
    return len(over) + len(going)


def _at_end(catalogue: Catalogue, entry: DueEntry) -> bool:
    definition = catalogue.program(entry.program_id, entry.version).definition
    return isinstance(definition.nodes[entry.node], EndNode)


async def _end(conn: Connection, entries: Sequence[DueEntry]) -> None:
    """The last wait is over: who gave no sign since the entry began becomes Inactive."""
    await programs.lock_gates(conn, sorted({entry.contact_id for entry in entries}))
    silent = await end_silent(conn, [entry.id for entry in entries])
    await programs.end_entries(conn, [(entry.id, "silent" if entry.id in silent else "done") for entry in entries])


async def _send_next(conn: Connection, catalogue: Catalogue, config: Config, entries: Sequence[DueEntry]) -> None:
    now = datetime.now(UTC)
    oldest = [now + config.max_age(class_) for class_ in range(3)]
    mails = [
        (
            entry,
            catalogue.program(entry.program_id, entry.version).messages[entry.node],
            min(oldest[entry.class_], entry.not_after) if entry.not_after else oldest[entry.class_],
        )
        for entry in entries
    ]
    await programs.next_mails(conn, mails, COMMAND_SLOT)
    await store.wake_sites(conn, sorted({e.site_id for e in entries if e.site_id is not None}))


async def finish(pool: Pool) -> int:
    """Programs with nothing left to do are done; how many became so."""
    async with pool.acquire() as conn:
        return len(await programs.finish_programs(conn))


async def pause_on_content_faults(pool: Pool) -> int:
    """A program whose mails fail for one content reason too often pauses itself; how many did."""
    async with pool.acquire() as conn:
        faulty = await programs.content_faults(conn)
    for program_id, name, reason, number in faulty:
        why = f"{number} mails failed: {reason}"
        log.warning("program pauses itself", extra={"program": name, "why": why})
        await in_transaction(pool, partial(_pause, program_id=program_id, why=why))
    return len(faulty)


async def _pause(conn: Connection, program_id: int, why: str) -> None:
    status, _ = await programs.lock_program(conn, program_id)
    if status == "running":
        await set_program_status(conn, program_id, "paused", why)
        await programs.hold_jobs(conn, program_id)
