"""What other tables know about contacts on streams, read for a replay. SQL: sql/queries/replay.sql."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from engine.free import PAGE, Free
from engine.history import HAPPENED, Entered, Happened, Mail, Past, Way, came_from
from engine.score import Hit, Key, once
from engine.states import State, Transition
from mtad.base.db import Connection, Row, row_values
from mtad.base.sqlfiles import queries

SQL = queries("replay")

Outages = list[tuple[datetime, datetime]]


async def heard(conn: Connection) -> datetime:
    """The watermark: every older hit is in the database, and folded unless its mail is still queued."""
    at: datetime = await conn.fetchval(SQL["heard"])
    return at


async def heard_on(conn: Connection, streams: Collection[int], at: datetime | None = None) -> dict[int, datetime]:
    """The watermark of each stream, where that of all is `at` (None: it is asked for).

    None is beyond the moment at which the stream's tracking address was in reach last.
    """
    at = at or await heard(conn)
    deaf = {row[0]: row[1] for row in await conn.fetch(SQL["out_of_reach"])}
    return {stream: min(at, deaf.get(stream, at)) for stream in streams}


async def outages(conn: Connection, since: datetime, streams: Collection[int] | None = None) -> dict[int, Outages]:
    """When nobody of each stream could be heard, as far as we know: from, to; most streams are missing."""
    found: defaultdict[int, Outages] = defaultdict(list)
    for row in await conn.fetch(SQL["outages"], since, None if streams is None else sorted(streams)):
        found[row[0]].append((row[1], row[2]))
    return found


async def modes(conn: Connection, keys: Collection[Key]) -> dict[Key, str]:
    """The tracking modes of contacts that have their own on the stream."""
    rows = await conn.fetch(SQL["modes_of"], [key[0] for key in keys], [key[1] for key in keys])
    return {(row[0], row[1]): row[2] for row in rows}


async def mails(conn: Connection, since: Mapping[Key, datetime]) -> dict[Key, list[Mail]]:
    """What came, or may have, after each key's moment; keys without any are missing."""
    found: dict[Key, list[Mail]] = {}
    for key, values in await _rows(conn, "mails_of", since):
        found.setdefault(key, []).append(Mail(*values))
    return found


async def veiled(conn: Connection, since: Mapping[Key, datetime]) -> dict[Key, list[tuple[Any, datetime]]]:
    """What a privacy proxy fetched after each key's moment; keys without any are missing."""
    found: dict[Key, list[tuple[Any, datetime]]] = {}
    for key, values in await _rows(conn, "veiled_of", since):
        found.setdefault(key, []).append((values[0], values[1]))
    return found


async def past(conn: Connection, since: Mapping[Key, datetime]) -> dict[Key, Past]:
    """All that is known of each key after its moment."""
    known = {key: Past(key) for key in since}
    for key, mode in (await modes(conn, since)).items():
        known[key].mode = mode
    for key, came in (await mails(conn, since)).items():
        known[key].mails = came
    for key, fetched in (await veiled(conn, since)).items():
        known[key].veiled = fetched
    for row in await conn.fetch(SQL["hits_of"], *_asked(since)):
        hit = Hit(*row_values(row))
        known[hit.key].hits.append(hit)
    for key, values in await _rows(conn, "entries_of", since):
        known[key].ways.append(Way(*values))
    for key, values in await _rows(conn, "events_of", since, list(HAPPENED)):
        known[key].events.append(Happened(*values))
    for key, values in await _rows(conn, "free_of", since):
        known[key].free.append(Free(*values))
    for key, (job, kind) in await _rows(conn, "answers_before", since):
        known[key].answered.add(once(job, kind))
    for key, values in await _rows(conn, "transitions_of", since):
        id_, from_state, to_state, why, fact, at, takes_back = values
        move = Transition(came_from(from_state), State(to_state), why, fact, at)
        known[key].log.append(Entered(id_, move, takes_back))
    return known


async def streams_of(conn: Connection, contacts: Sequence[int]) -> dict[int, list[int]]:
    """The streams that each is subscribed to and may be measured on."""
    found: dict[int, list[int]] = {}
    for row in await conn.fetch(SQL["streams_of"], contacts):
        found.setdefault(row[0], []).append(row[1])
    return found


async def pages_of_days(conn: Connection, since: Mapping[Key, datetime]) -> dict[Key, list[Free]]:
    """The pages that each has seen from the beginning of that day (UTC) on."""
    days = {key: at.replace(hour=0, minute=0, second=0, microsecond=0) for key, at in since.items()}
    found: dict[Key, list[Free]] = {}
    for key, values in await _rows(conn, "free_of", days):
        if (free := Free(*values)).event == PAGE:
            found.setdefault(key, []).append(free)
    return found


async def drop_answers(conn: Connection, since: Mapping[Key, datetime]) -> None:
    """Of what is replayed, for it is written anew."""
    await conn.execute(SQL["drop_answers"], *_asked(since))


async def _rows(
    conn: Connection, query: str, since: Mapping[Key, datetime], *more: object
) -> list[tuple[Key, tuple[Any, ...]]]:
    rows: list[Row] = await conn.fetch(SQL[query], *_asked(since), *more)
    return [((row[0], row[1]), row_values(row)[2:]) for row in rows]


def _asked(since: Mapping[Key, datetime]) -> tuple[list[int], list[int], list[datetime]]:
    return [key[0] for key in since], [key[1] for key in since], list(since.values())
