"""What people do to their own permission: give it anew, take a break, be measured no more.

As in `service`, every function runs in the caller's transaction and locks the gate row
first. Events are written under the id that is given; one that is known changes nothing.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from engine import store
from engine.replay import Fact
from engine.rows import set_bases
from engine.score import Key
from engine.states import Event, Kind
from engine.tell import ADVERTISING, tell
from mtad.base.db import Connection
from mtad.base.sqlfiles import queries

SQL = queries("permission")

__all__ = ["agreed_since", "end_break", "stop_measuring", "subscribe", "take_break", "undo"]


async def subscribe(
    conn: Connection,
    contact_id: int,
    stream_id: int,
    *,
    event_id: UUID,
    at: datetime,
    source: str,
    asked_to_measure: bool,
    may_measure: bool,
) -> None:
    """A new proof is there: subscribed by consent. Who is Inactive comes back.

    Who was asked whether we may measure, and did not say yes, is in mode none; who was not
    asked stays in the mode that was there.
    """
    await store.lock_gates(conn, [contact_id])
    mode = "full" if may_measure else "none" if asked_to_measure else None
    before = await conn.fetchval(SQL["subscribe"], contact_id, stream_id, at, source, mode, asked_to_measure)
    data = {"source": source}
    if await store.add_event(conn, event_id, "subscribe", at, data, contact=contact_id, stream=stream_id):
        await store.raise_gates(conn, [contact_id])
        event = Event(Kind.SUBSCRIBED_AGAIN, at, source)
        # Mail from before the yes could not be heard, so no replay may take it for ignored.
        fresh = mode == "full" and before != "full"
        await _happened(conn, {(stream_id, contact_id)}, event_id, event, base=fresh)


async def agreed_since(conn: Connection, contact_id: int, stream_id: int, at: datetime) -> bool:
    """Whether the person has agreed anew since it left `at` that time, which we hear only now. Its gate is locked."""
    return bool(await conn.fetchval(SQL["agreed_since"], contact_id, stream_id, at))


async def undo(conn: Connection, contact_id: int, stream_id: int, *, event_id: UUID, at: datetime, how: str) -> bool:
    """Leaving, or a break, is taken back within a day by whoever did it; False when there is no such thing."""
    return await _again(conn, "undo", contact_id, stream_id, event_id=event_id, at=at, how=how)


async def end_break(
    conn: Connection, contact_id: int, stream_id: int, *, event_id: UUID, at: datetime, how: str
) -> bool:
    """A break is over before its time, however old it is; False when nobody has one there."""
    return await _again(conn, "end_break", contact_id, stream_id, event_id=event_id, at=at, how=how)


async def _again(
    conn: Connection, kind: str, contact_id: int, stream_id: int, *, event_id: UUID, at: datetime, how: str
) -> bool:
    """Mail of the stream goes on: entries wait no longer for the break, and queued mail is judged anew now."""
    if not await store.lock_gates(conn, [contact_id]):
        return False
    rest: float | None = await conn.fetchval(SQL[kind], contact_id, stream_id, how)
    if rest is None:
        return False
    if await store.add_event(conn, event_id, kind, at, {"how": how}, contact=contact_id, stream=stream_id):
        await store.raise_gates(conn, [contact_id])
        await _happened(conn, {(stream_id, contact_id)}, event_id, Event(Kind.SUBSCRIBED_AGAIN, at, how))
        if rest:
            await conn.execute(SQL["shift_waits"], contact_id, stream_id, -rest)
            await store.wake_jobs(conn, [(stream_id, contact_id, ADVERTISING)])
    return True


async def take_break(
    conn: Connection, contact_id: int, stream_id: int, *, event_id: UUID, at: datetime, until: datetime, how: str
) -> bool:
    """Nothing of the stream until then: mail that waits is judged anew now, and entries stand still.

    False when nobody is subscribed there.
    """
    if not await store.lock_gates(conn, [contact_id]):
        return False
    before: datetime | None = await conn.fetchval(SQL["take_break"], contact_id, stream_id, until, how)
    if before is None:
        return False
    data = {"how": how, "until": until.isoformat()}
    if await store.add_event(conn, event_id, "break", at, data, contact=contact_id, stream=stream_id):
        await store.raise_gates(conn, [contact_id])
        await _happened(conn, {(stream_id, contact_id)}, event_id, Event(Kind.BREAK, at, how))
        await conn.execute(SQL["shift_waits"], contact_id, stream_id, (until - before).total_seconds())
        await store.wake_jobs(conn, [(stream_id, contact_id, ADVERTISING)])
    return True


async def stop_measuring(
    conn: Connection, contact_id: int, stream_ids: Collection[int], *, event_id: UUID, at: datetime, how: str
) -> set[int]:
    """Mode none from now on, on these of the contact's streams; those on which it was another before.

    Of hits until then class and reasons are left, as of those that are older than the term of [privacy].
    """
    if not await store.lock_gates(conn, [contact_id]):
        return set()
    stopped = {row[0] for row in await conn.fetch(SQL["stop_measuring"], contact_id, sorted(stream_ids))}
    data = {"how": how, "streams": sorted(stopped)}
    if stopped and await store.add_event(conn, event_id, "unmeasured", at, data, contact=contact_id):
        # What was composed before and has not begun is composed anew.
        await store.raise_gates(conn, [contact_id])
        # What was measured before is forgotten.
        event = Event(Kind.WITHDRAWN, at, how)
        await _happened(conn, {(stream, contact_id) for stream in stopped}, event_id, event, base=True)
        # Events are locked behind all else.
        await conn.execute(SQL["forget_origins"], contact_id, sorted(stopped))
    return stopped


async def _happened(
    conn: Connection, keys: Collection[Key], event_id: UUID, event: Event, *, base: bool = False
) -> None:
    """To whomever something is known of on the stream; the others stay New. `base`: no replay goes behind it."""
    fact = Fact(id=f"told {event_id}", event=event)
    told = await tell(conn, {key: [fact] for key in keys})
    if base and told:
        await set_bases(conn, told.keys())
