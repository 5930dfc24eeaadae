"""Who gets nothing more, or no advertising: addresses and domains, with all that follows from it."""

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from engine import store
from engine.replay import Fact
from engine.score import Leave
from engine.states import Event, Kind
from engine.store import raise_epoch
from engine.tell import ADVERTISING, tell
from mtad.base.db import Connection
from mtad.base.errors import InputError
from mtad.base.ids import uuid7

__all__ = ["GONE_FOR", "Suppress", "release", "suppress"]

# How long an address that bounced for good is left alone: some are set up again.
GONE_FOR = timedelta(days=180)

# Why an entry ends when its address is suppressed for this reason; else 'suppressed'.
_LEFT_BY = {"hard_bounce": "bounced", "complained": "complained", "erased": "erased"}


class Suppress(msgspec.Struct, frozen=True):
    """One suppression: `key` is an address key, or '@' and a domain; `until` None is for ever."""

    key: str
    scope: Literal["all", "marketing"]
    reason: str  # hard_bounce, mailbox_full, manual, complained, erased
    source: str
    until: datetime | None = None


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
        await _complained(conn, complained)
    await store.leave(
        conn, [Leave(contact, _LEFT_BY.get(row.reason, "suppressed")) for contact, row in by_contact.items()]
    )
    await store.wake_jobs(
        conn,
        [(None, contact, 0 if row.scope == "all" else ADVERTISING) for contact, row in by_contact.items()],
    )
    return fresh


async def _complained(conn: Connection, contacts: Sequence[int]) -> None:
    """On every stream."""
    now = await store.now(conn)
    ids = {contact: uuid7(int(now.timestamp() * 1000), os.urandom(10)) for contact in contacts}
    await store.add_complaints(conn, ids, now)
    facts = {
        contact: Fact(id=f"told {event_id}", event=Event(Kind.COMPLAINED, now, "complaint"))
        for contact, event_id in ids.items()
    }
    await tell(conn, {key: [facts[key[1]]] for key in await store.streams_of(conn, contacts)})


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
