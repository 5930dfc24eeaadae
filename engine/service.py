"""The door of the engine: what happened to people, written down with all that follows from it.

Every function here that takes a connection runs in the caller's transaction, and none is
half done: whoever becomes less eligible gets a newer gate version in the same one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from engine import past, store
from engine.catalogue import Catalogue, Program, Stream
from engine.fold import fold, fold_signs
from engine.forgetting import count_forgettable, forgettable
from engine.history import ended
from engine.listening import held_after, holds, holds_over, noticed, recall
from engine.offers import offer, retell, told_until
from engine.permission import agreed_since
from engine.reactivation import stop_stranded
from engine.replay import Fact
from engine.rows import lock_rows
from engine.score import Key, Leave
from engine.setting import SETTABLE, set_state
from engine.silence import heard_until
from engine.states import Event, Kind
from engine.store import raise_epoch
from engine.suppression import GONE_FOR, Suppress, release, suppress
from engine.sweep import Braked, brakes, release_brake, sweep
from engine.tell import ADVERTISING, LONGEST_OUTAGE, tell
from mtad.base.db import Connection, Pool, in_transaction

__all__ = [
    "GONE_FOR",
    "SETTABLE",
    "Braked",
    "Catalogue",
    "Program",
    "Stream",
    "Suppress",
    "brakes",
    "count_forgettable",
    "end_silent",
    "enter",
    "enter_reactivation",
    "fold",
    "fold_signs",
    "forgettable",
    "holds",
    "not_heard",
    "noticed",
    "offer",
    "raise_epoch",
    "recall",
    "release",
    "release_brake",
    "retell",
    "set_program_status",
    "set_state",
    "stop_stranded",
    "suppress",
    "sweep",
    "told_until",
    "unsubscribe",
]

ProgramStatus = Literal["scheduled", "running", "paused", "done", "cancelled"]


async def enter(
    conn: Connection,
    stream_id: int,
    contact_ids: Sequence[int],
    at: datetime,
    *,
    series: bool,
    fact: str = "enrolment",
) -> None:
    """Contacts enter a program of the stream at `at`: rounds begin, Engaged (series) and Reactivated become Active.

    Call it before their entries are made, for what already runs then is another series.
    Who is Inactive stays so. Nobody becomes less eligible, so no gate is raised.
    """
    if contact_ids:
        await store.add_engagements(conn, [((stream_id, contact), at) for contact in sorted(set(contact_ids))])
        await store.enter(conn, stream_id, contact_ids, at, series=series, fact=fact)


async def enter_reactivation(
    conn: Connection, stream_id: int, contact_ids: Sequence[int], at: datetime, *, fact: str = "enrolment"
) -> set[int]:
    """Those of the contacts whose cool-down is over try again: whom to make entries for, in this transaction.

    The gates of these contacts are locked. They are Inactive before and after, so no gate is raised.
    """
    return await store.enter_reactivation(conn, stream_id, contact_ids, at, fact) if contact_ids else set()


async def not_heard(conn: Connection, waits: Mapping[int, float]) -> dict[int, datetime]:
    """Entries whose wait of so many seconds is over, but not listened to all the time: until when they go on."""
    if not waits:
        return {}
    since = await store.now(conn) - LONGEST_OUTAGE
    outages = await past.outages(conn, since)
    if not outages and not await held_after(conn, since):
        return {}
    over = await store.waits_over(conn, list(waits))
    held = await holds_over(conn, {key for *_, key in over}, since)
    untils = {
        entry: (due, heard_until(mailed, due, waits[entry], outages.get(key[0], []) + held.get(key, [])))
        for entry, due, mailed, key in over
    }
    return {entry: until for entry, (due, until) in untils.items() if until > due}


async def end_silent(conn: Connection, entry_ids: Sequence[int]) -> set[int]:
    """Entries came to the end of their series or reactivation: which were silent, with what follows from that.

    Silent: something was delivered, the contact may be measured, no hit waits to be judged
    or folded, and there was no human sign on the stream since the entry began. With
    `when_silent = "inactive"` the contact becomes Inactive and its other entries on the
    stream end; who was silent through a reactivation cools down again, or rests. The caller
    holds the gate rows of these contacts and ends the entries themselves, as 'silent' or
    'done'. An entry that ended meanwhile is not silent.
    """
    ways = {way.id: way for way in await store.ended_ways(conn, entry_ids)}
    rows = await lock_rows(conn, {(way.stream_id, way.contact_id) for way in ways.values()})
    silent: set[int] = set()
    facts: dict[Key, list[Fact]] = {}
    for way in ways.values():
        key = (way.stream_id, way.contact_id)
        kept = rows.get(key)
        if kept is None or not way.heard or (kept.row.last_sign is not None and kept.row.last_sign >= way.entered):
            continue
        silent.add(way.id)
        kind = Kind.REACTIVATION_SILENT if way.kind == "reactivation" else Kind.SERIES_SILENT
        if way.kind == "reactivation" or way.when_silent == "inactive":
            facts.setdefault(key, []).append(ended(kind, way.id, way.program, way.entered, way.now))
    if facts:
        await tell(conn, facts, spare=entry_ids)
    return silent


async def unsubscribe(
    pool: Pool,
    *,
    contact_id: int,
    program_id: int | None = None,
    stream_id: int | None = None,
    event_id: UUID,
    at: datetime,
    how: str,
    late: bool = False,
) -> bool:
    """A contact leaves a stream, or the stream of a program. When this returns, no mail of it begins any more.

    The event is written here and nowhere else: an `event_id` that is known changes nothing,
    so a journal may be read again after the person has subscribed anew. `late`: told by a
    journal, whose host may have been away for days; whoever has agreed anew since `at` stays then.
    False if so, when the event is known, when there is no such contact, program or stream, and
    of who was erased, whose old mail leaves no row.
    """

    async def work(conn: Connection) -> bool:
        stream = stream_id
        if stream is None and program_id is not None:
            stream = await store.stream_of_program(conn, program_id)
        if stream is None or not await store.lock_gates(conn, [contact_id]) or await store.erased(conn, contact_id):
            return False
        if not await store.add_event(
            conn, event_id, "unsubscribe", at, {"how": how, "program": program_id}, contact=contact_id, stream=stream
        ):
            return False
        # It happened, whatever came later: a replay finds it too.
        await tell(conn, {(stream, contact_id): [Fact(id=f"told {event_id}", event=Event(Kind.UNSUBSCRIBED, at, how))]})
        if late and await agreed_since(conn, contact_id, stream, at):
            return False
        await store.unsubscribe(conn, contact_id, stream, at, how)
        await store.raise_gates(conn, [contact_id])
        await store.leave(conn, [Leave(contact_id, "unsubscribed", stream)])
        await store.wake_jobs(conn, [(stream, contact_id, ADVERTISING)])
        return True

    return await in_transaction(pool, work)


async def set_program_status(conn: Connection, program_id: int, status: ProgramStatus, why: str | None) -> None:
    """Pause, resume, cancel: nothing that was judged before the commit begins after it.

    Locks the program's row, against begin too. Cancelled: its entries end. The jobs are
    the queue's to hold or wake. KeyError when there is no such program.
    """
    if await store.lock_program(conn, program_id) is None:
        raise KeyError(program_id)
    await store.set_program_status(conn, program_id, status, why)
    if status == "cancelled":
        await store.end_program(conn, program_id, "cancelled")
