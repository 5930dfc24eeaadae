"""Entries from step to step: whose wait is over gets the next mail, or reaches the end.

Set-based, 2,000 at a time. An end locks gates before engagement and entries, so
ends and next mails are two transactions.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec

from engine.programs import ChooseNode, EndNode, Node, WaitNode, chosen_stop, life_of
from engine.service import Catalogue, end_silent, not_heard, set_program_status
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.queue import entries, programs, store
from mtad.queue.enqueue import cancel
from mtad.queue.entries import DueEntry
from mtad.queue.intake import COMMAND_SLOT, last_moment

# So long a reactivation waits for a hit to be judged, which takes seconds.
PATIENCE = timedelta(hours=1)

log = logging.getLogger("mtad.advance")


async def advance(pool: Pool, catalogue: Catalogue, config: Config) -> int:
    """Move due entries on; how many."""
    async with pool.acquire() as conn:
        due = await entries.due_entries(conn)
        if not due:
            return 0
        await catalogue.need(
            {(entry.program_id, entry.version) for entry in due},
            {(entry.stream_id, entry.stream_version) for entry in due},
            catalogue.epoch,
        )
        choosing = [entry for entry in due if isinstance(_node(catalogue, entry), ChooseNode)]
        chosen, passing = await _choices(conn, catalogue, choosing)
    over = [entry for entry in due if isinstance(_node(catalogue, entry), EndNode)]
    going = [entry for entry in due if not isinstance(_node(catalogue, entry), ChooseNode | EndNode)] + chosen
    moved = len(going) + len(passing)
    if over:
        moved += await in_transaction(pool, lambda conn: _end(conn, catalogue, over))
    if going:
        await in_transaction(pool, lambda conn: _send_next(conn, catalogue, config, going))
    if passing:
        await in_transaction(pool, lambda conn: entries.move_entries(conn, passing))
    return moved


def _node(catalogue: Catalogue, entry: DueEntry) -> Node:
    return catalogue.program(entry.program_id, entry.version).definition.nodes[entry.node]


async def _choices(
    conn: Connection, catalogue: Catalogue, due: Sequence[DueEntry]
) -> tuple[list[DueEntry], list[tuple[int, str, datetime]]]:
    """Entries at a choice: those that get a mail, at its node; and (entry, node, due) of those that go on without.

    Who has a hit that waits to be judged stays: it may decide. So does, for as long, to whom
    nobody listened for part of the wait.
    """
    if not due:
        return [], []
    later = await not_heard(conn, {entry.id: _wait(catalogue, entry) for entry in due})
    mails = await entries.last_answers(conn, [entry.id for entry in due])
    chosen: list[DueEntry] = []
    passing: list[tuple[int, str, datetime]] = [(one.id, one.node, later[one.id]) for one in due if one.id in later]
    for entry in due:
        if entry.id in later:
            continue
        mail = mails.get(entry.id)
        if mail and mail.unjudged:
            continue
        definition = catalogue.program(entry.program_id, entry.version).definition
        last, answers = (mail.node, mail.answers) if mail else (None, None)
        stop = chosen_stop(definition, entry.node, last, answers)
        if stop.wait or stop.ends:
            passing.append((entry.id, stop.node, entry.due + timedelta(seconds=stop.wait)))
        else:
            chosen.append(msgspec.structs.replace(entry, node=stop.node))
    return chosen, passing


async def _end(conn: Connection, catalogue: Catalogue, over: Sequence[DueEntry]) -> int:
    """The last wait is over: who gave no sign since the entry began becomes Inactive, or cools down again.

    Where nobody listened for part of that wait, it goes on for as long. A reactivation of
    whom a hit waits to be judged goes on: it may be an answer. How many were moved.
    """
    await entries.lock_gates(conn, sorted({entry.contact_id for entry in over}))
    later = await not_heard(conn, {one.id: _wait(catalogue, one) for one in over if _concludes(catalogue, one)})
    going_on = [(entry.id, entry.node, later[entry.id]) for entry in over if entry.id in later]
    over = [entry for entry in over if entry.id not in later]
    silent = await end_silent(conn, [entry.id for entry in over])
    late = datetime.now(UTC) - PATIENCE
    ends = [
        (entry.id, "silent" if entry.id in silent else "done")
        for entry in over
        if entry.id in silent or entry.due < late or not _tries(catalogue, entry)
    ]
    return await entries.end_entries(conn, ends) + await entries.move_entries(conn, going_on)


def _wait(catalogue: Catalogue, entry: DueEntry) -> float:
    """Seconds from the mail before to the node at which an entry is."""
    nodes = catalogue.program(entry.program_id, entry.version).definition.nodes.values()
    return max((node.seconds for node in nodes if isinstance(node, WaitNode) and node.next == entry.node), default=0.0)


def _concludes(catalogue: Catalogue, entry: DueEntry) -> bool:
    """Whether silence to the end of its way means something."""
    definition = catalogue.program(entry.program_id, entry.version).definition
    return definition.when_silent == "inactive" or _tries(catalogue, entry)


def _tries(catalogue: Catalogue, entry: DueEntry) -> bool:
    return catalogue.program(entry.program_id, entry.version).kind == "reactivation"


async def _send_next(conn: Connection, catalogue: Catalogue, config: Config, due: Sequence[DueEntry]) -> None:
    now = datetime.now(UTC)
    mails = []
    for entry in due:
        program = catalogue.program(entry.program_id, entry.version)
        life = life_of(program.definition, entry.node)
        # The step's own limit counts from when the mail should have gone, so a pause uses it up.
        not_after = last_moment(config, entry.class_, now, life and entry.due + life - now, entry.not_after)
        mails.append((entry, program.messages[entry.node], not_after))
    await entries.next_mails(conn, mails, COMMAND_SLOT)
    await store.wake_sites(conn, sorted({e.site_id for e in due if e.site_id is not None}))


async def finish(pool: Pool) -> int:
    """Programs with nothing left to do are done, reactivations paused past their end are cancelled; how many."""
    async with pool.acquire() as conn:
        done = len(await programs.finish_programs(conn))
        paused = await programs.paused_for_good(conn)
    for name in paused:
        await cancel(pool, name, "it was paused past its end")
    return done + len(paused)


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
