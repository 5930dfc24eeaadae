"""What happened beside the mail is offered to the streams of the contact, in the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime

from engine import past, store
from engine.free import PAGE, Free, free_fact
from engine.replay import Fact
from engine.reports import REPORTS, Occurrence, report
from engine.rows import bases
from engine.score import Key
from engine.tell import policies_of, tell
from mtad.base.db import Connection


async def offer(conn: Connection, occurrences: Sequence[Occurrence]) -> None:
    """Fold what contacts did into every stream that they are subscribed to, may be measured on, and that has a rule.

    Reports of what came back by mail (engine/reports.py) are no such thing, and are taken at their
    word. The events are written; the caller holds no gates, or those of all these contacts.
    """
    reports = [one for one in occurrences if one.event in REPORTS]
    if reports:
        await store.lock_gates(conn, {one.contact_id for one in reports})
        await report(conn, reports)
        occurrences = [one for one in occurrences if one.event not in REPORTS]
    streams = await past.streams_of(conn, sorted({one.contact_id for one in occurrences}))
    policies = await policies_of(conn, {stream for found in streams.values() for stream in found})
    facts: dict[Key, list[Fact]] = {}
    for one in occurrences:
        free = Free(one.event_id, one.event, one.at, one.properties)
        for stream in streams.get(one.contact_id, ()):
            key = (stream, one.contact_id)
            if fact := free_fact(key, free, policies[stream]):
                facts.setdefault(key, []).append(fact)
    if not facts:
        return
    exist = await store.lock_gates(conn, {contact for _, contact in facts})
    facts = {key: told for key, told in facts.items() if key[1] in exist}
    answered: set[str] = set()
    if pages := [one for one in occurrences if one.event == PAGE]:
        new = {one.event_id for one in pages}
        since = {key: min(one.at for one in pages) for key in facts}
        for key, seen in (await past.pages_of_days(conn, since)).items():
            told = [free_fact(key, page, policies[key[0]]) for page in seen if page.id not in new]
            answered |= {fact.once for fact in told if fact}
    await tell(conn, facts, policies=policies, answered=answered, make=True)


async def told_until(conn: Connection, keys: Sequence[Key]) -> dict[Key, datetime]:
    """Up to when nothing that is told of a contact on a stream changes its row any more; most are missing."""
    return {key: kept.told for key, kept in (await bases(conn, keys)).items()}


async def retell(conn: Connection, keys: Sequence[Key]) -> None:
    """Some of what was told was none, or counts after all: replay these contacts on these streams.

    The tables say by now what is true; who is not known on a stream stays so.
    """
    if keys:
        exist = await store.lock_gates(conn, {contact for _, contact in keys})
        await tell(conn, {key: () for key in sorted(set(keys)) if key[1] in exist}, again=True)
