"""The door of the engine: what happened to people, written down with all that follows from it.

Every function here that takes a connection runs in the caller's transaction, and none is
half done: whoever becomes less eligible gets a newer gate version in the same one.
"""

import os
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from engine import store
from engine.catalogue import Catalogue, Program, Stream
from engine.fold import ADVERTISING, fold, fold_signs
from engine.score import Key, Leave
from engine.states import Event, Kind, Row, Transition, apply
from engine.store import raise_epoch
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import InputError
from mtad.base.ids import uuid7

__all__ = [
    "Catalogue",
    "Program",
    "Stream",
    "Suppress",
    "end_silent",
    "enter",
    "fold",
    "fold_signs",
    "raise_epoch",
    "release",
    "set_program_status",
    "suppress",
    "unsubscribe",
]

ProgramStatus = Literal["scheduled", "running", "paused", "done", "cancelled"]

# Why an entry ends when its address is suppressed for this reason; else 'suppressed'.
_LEFT_BY = {"hard_bounce": "bounced", "complained": "complained", "erased": "erased"}


class Suppress(msgspec.Struct, frozen=True):
    """One suppression: `key` is an address key, or '@' and a domain; `until` None is for ever."""

    key: str
    scope: Literal["all", "marketing"]
    reason: str  # hard_bounce, mailbox_full, manual, complained, erased
    source: str
    until: datetime | None = None


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


async def end_silent(conn: Connection, entry_ids: Sequence[int]) -> set[int]:
    """Entries came to the end of their series: which were silent, with what follows from that.

    Silent: something was delivered, the contact may be measured, no hit waits to be judged
    or folded, and there was no human sign on the stream since the entry began. With
    `when_silent = "inactive"` the contact becomes Inactive and its other entries on the
    stream end. The caller holds the gate rows of these contacts and ends the entries
    themselves, as 'silent' or 'done'. An entry that ended meanwhile is not silent.
    """
    ways = await store.ended_ways(conn, entry_ids)
    rows = await store.lock_engagements(conn, {(way.stream_id, way.contact_id) for way in ways})
    streams = await store.current_streams(conn, {way.stream_id for way in ways})
    silent: set[int] = set()
    changed: dict[Key, Row] = {}
    transitions: list[tuple[Key, Transition]] = []
    for way in ways:
        key = (way.stream_id, way.contact_id)
        row = rows.get(key)
        if row is None or not way.heard or (row.last_sign is not None and row.last_sign >= way.entered):
            continue
        silent.add(way.id)
        if way.when_silent != "inactive":
            continue
        event = Event(Kind.SERIES_SILENT, way.now, f"end of {way.program}, entry {way.id}")
        after, moved = apply(changed.get(key, row), event, streams[way.stream_id].policy)
        if moved:
            changed[key] = after
            transitions.append((key, moved))
    if transitions:
        await store.write_engagements(conn, changed, changed.keys())
        await store.add_transitions(conn, transitions)
        await _leave_others(conn, changed.keys(), entry_ids)
    return silent


async def _leave_others(conn: Connection, keys: Collection[Key], entry_ids: Sequence[int]) -> None:
    """Became Inactive: every way on the stream ends, except those that the caller ends."""
    await store.leave(conn, [Leave(contact, "inactive", stream) for stream, contact in sorted(keys)], spare=entry_ids)
    await store.raise_gates(conn, [contact for _, contact in keys])
    await store.wake_jobs(conn, [(stream, contact, ADVERTISING) for stream, contact in keys])


async def _fall_back(conn: Connection, stream: int | None, contacts: Collection[int], event: Event) -> None:
    """The end of a permission keeps the state, but a running reactivation is over; stream None: all."""
    rows = await store.lock_trying(conn, stream, contacts)
    if not rows:
        return
    streams = await store.current_streams(conn, {key[0] for key in rows})
    applied = {key: apply(row, event, streams[key[0]].policy) for key, row in rows.items()}
    await store.write_engagements(conn, {key: row for key, (row, _) in applied.items()}, rows.keys())
    await store.add_transitions(conn, [(key, moved) for key, (_, moved) in applied.items() if moved])


async def unsubscribe(
    pool: Pool,
    *,
    contact_id: int,
    program_id: int | None = None,
    stream_id: int | None = None,
    event_id: UUID,
    at: datetime,
    how: str,
) -> bool:
    """A contact leaves a stream, or the stream of a program. When this returns, no mail of it begins any more.

    The event is written here and nowhere else: an `event_id` that is known changes nothing,
    so a journal may be read again after the person has subscribed anew. False then, and when
    there is no such contact, program or stream.
    """

    async def work(conn: Connection) -> bool:
        stream = stream_id
        if stream is None and program_id is not None:
            stream = await store.stream_of_program(conn, program_id)
        if stream is None or not await store.lock_gates(conn, [contact_id]):
            return False
        if not await store.add_event(
            conn, event_id, "unsubscribe", at, {"how": how, "program": program_id}, contact=contact_id, stream=stream
        ):
            return False
        await store.unsubscribe(conn, contact_id, stream, at, how)
        await store.raise_gates(conn, [contact_id])
        await _fall_back(conn, stream, [contact_id], Event(Kind.UNSUBSCRIBED, at, how))
        await store.leave(conn, [Leave(contact_id, "unsubscribed", stream)])
        await store.wake_jobs(conn, [(stream, contact_id, ADVERTISING)])
        return True

    return await in_transaction(pool, work)


async def suppress(conn: Connection, rows: Sequence[Suppress]) -> int:
    """Addresses and domains get nothing more, or (scope marketing) no advertising; how many were not held before.

    Entries of known contacts end and their queued mail is due now, for the gate to end it.
    Of domains the gate hears by the epoch. InputError for a domain with scope marketing.
    """
    for row in rows:
        if row.key.startswith("@") and row.scope != "all":
            raise InputError(f"{row.key}: a domain is suppressed for all mail or not at all")
    if not rows:
        return 0
    # Of two rows for one address the wider scope says what ends.
    reason_of = {row.key: row for row in sorted(rows, key=lambda row: row.scope == "all")}
    contacts = await store.contacts_of_keys(conn, [key for key in reason_of if not key.startswith("@")])
    held = await store.lock_gates(conn, contacts)
    await store.raise_gates(conn, held)
    if any(key.startswith("@") for key in reason_of):
        await raise_epoch(conn)
    fresh = await store.suppress(conn, [(r.key, r.scope, r.reason, r.source, r.until) for r in rows])
    by_contact = {contact: reason_of[key] for contact, key in contacts.items() if contact in held}
    complained = [contact for contact, row in by_contact.items() if row.reason == "complained"]
    if complained:
        await _fall_back(conn, None, complained, Event(Kind.COMPLAINED, await store.now(conn), "complaint"))
    await store.leave(
        conn, [Leave(contact, _LEFT_BY.get(row.reason, "suppressed")) for contact, row in by_contact.items()]
    )
    await store.wake_jobs(
        conn,
        [(None, contact, 0 if row.scope == "all" else ADVERTISING) for contact, row in by_contact.items()],
    )
    return fresh


async def release(conn: Connection, keys: Sequence[str], by: str) -> int:
    """Close suppressions of these keys; how many. Nothing is sent again, and an erasure is not undone."""
    contacts = await store.contacts_of_keys(conn, [key for key in keys if not key.startswith("@")])
    held = await store.lock_gates(conn, contacts)
    await store.raise_gates(conn, held)
    if any(key.startswith("@") for key in keys):
        await raise_epoch(conn)
    released = await store.release(conn, keys)
    by_key = {key: contact for contact, key in contacts.items()}
    now = await store.now(conn)
    for key in released:
        event_id = uuid7(int(now.timestamp() * 1000), os.urandom(10))
        await store.add_event(conn, event_id, "release", now, {"key": key, "by": by}, contact=by_key.get(key))
    return len(released)


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
