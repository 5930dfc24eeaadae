"""The SQL of imports. Every function works inside the one transaction of its import."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec

from mtad.audience.rows import Contact, Rejected
from mtad.audience.values import Type
from mtad.base.db import Connection, Pool, Row
from mtad.base.sqlfiles import queries

SQL = queries("audience")

# Rows of one COPY: large enough for its cost not to show, small enough for a
# progress bar that moves and for the server's limit on the time of a statement.
BATCH = 10_000

# Of one statement over all rows of a file, in seconds. The pool's own limit is
# meant for the work of a mail server; an import of millions takes longer.
PATIENCE = 1800


class Suppression(msgspec.Struct, frozen=True):
    """An address key, or '@' and a domain, that gets no mail."""

    key: str
    scope: str  # all, marketing
    reason: str
    source: str
    created: datetime
    until: datetime | None  # None: until it is released


async def begin_import(conn: Connection) -> dict[str, Type]:
    """Wait until no other import runs, make room for the rows; the registered attributes."""
    await conn.execute(f"set local statement_timeout = '{PATIENCE}s'")
    await conn.execute(SQL["lock_imports"], timeout=PATIENCE)
    await conn.execute(SQL["make_incoming"])
    return {name: Type(kind) for name, kind in await conn.fetch(SQL["attribute_types"])}


async def copy_contacts(conn: Connection, contacts: Iterable[Contact], fields: Sequence[str]) -> int:
    """Take the `fields` of at most BATCH rows from `contacts`; how many rows there were."""
    records = list(map(attrgetter(*fields), islice(contacts, BATCH)))
    await conn.copy_records_to_table("incoming", records=records, columns=fields, timeout=PATIENCE)
    return len(records)


async def stream_of_name(conn: Connection | Pool, name: str) -> tuple[int, dict[str, Any]] | None:
    """Id and newest definition of a stream; None when there is none of that name."""
    row = await conn.fetchrow(SQL["stream_of_name"], name)
    return (row["id"], row["definition"]) if row else None


async def end_copy(conn: Connection) -> None:
    """Make what was copied ready for the statements that follow."""
    await _execute(conn, "index_incoming_keys")
    await _execute(conn, "index_incoming_lines")
    await _execute(conn, "analyze_incoming")


async def drop_doubles(conn: Connection) -> list[Rejected]:
    """Take out the rows whose address stands again further down; with the line that counts."""
    return [
        Rejected(line, address, f"the same address stands in line {winner}")
        for line, address, winner in await _fetch(conn, "drop_doubles")
    ]


async def drop_foreign_ids(conn: Connection) -> list[Rejected]:
    """Take out the rows whose external id stands again further down, or is another contact's."""
    shared = [
        Rejected(line, address, f"the same external_id stands in line {winner}")
        for line, address, winner in await _fetch(conn, "drop_shared_external_ids")
    ]
    return shared + [
        Rejected(line, address, f"external_id {external_id!r} belongs to another contact")
        for line, address, external_id in await _fetch(conn, "drop_foreign_external_ids")
    ]


async def hold(conn: Connection, stream_id: int | None) -> list[tuple[Rejected, bool]]:
    """Mark the rows whose permission stays as it is, each with its reason and whether the contact is known.

    That of the suppressed, and on the stream that of everybody who is not subscribed any more.
    """
    rows = await _fetch(conn, "hold_suppressed")
    if stream_id is not None:
        rows += await _fetch(conn, "hold_unpermitted", stream_id)
    return [(Rejected(line, address, held), known) for line, address, held, known in rows]


async def change_contacts(conn: Connection) -> int:
    """Update the contacts in which something differs from the file; raises their gates."""
    return await _execute(conn, "change_contacts")


async def add_contacts(conn: Connection) -> int:
    """Make the contacts that are not known and not held."""
    await _execute(conn, "add_domains")
    return await _execute(conn, "add_contacts")


async def add_external_ids(conn: Connection) -> int:
    """Give the external ids of the file to their contacts."""
    return await _execute(conn, "add_external_ids")


async def subscribe(
    conn: Connection, stream_id: int, *, basis: str, fact: str, too_old: float, most_ignored: int
) -> tuple[int, int]:
    """Subscribe whoever has no permission row on the stream; how many, and how many of them as Inactive."""
    [(subscribed, inactive)] = await _fetch(conn, "subscribe", stream_id, fact, too_old, most_ignored, basis)
    return subscribed, inactive


async def tighten_tracking(conn: Connection, stream_id: int, of_stream: str) -> int:
    """Apply tracking modes that are stricter than what holds now; never laxer ones."""
    return await _execute(conn, "tighten_tracking", stream_id, of_stream)


async def register_attributes(conn: Connection, types: Mapping[str, Type]) -> None:
    """Note the types of the new ones that a contact now has."""
    await _execute(conn, "register_attributes", list(types), [str(kind) for kind in types.values()])


async def unknown_incoming(conn: Connection) -> list[tuple[int, str, str]]:
    """Line, key and address of the rows whose addresses nobody has."""
    return [(row[0], row[1], row[2]) for row in await _fetch(conn, "unknown_incoming")]


async def drop_incoming(conn: Connection, lines: Sequence[int]) -> None:
    """Take these lines out of the import."""
    await _execute(conn, "drop_incoming", lines)


async def open_suppressions(pool: Pool) -> list[Suppression]:
    """All that are in force now, by key."""
    return [Suppression(*row) for row in await pool.fetch(SQL["open_suppressions"])]


async def _fetch(conn: Connection, name: str, *arguments: object) -> list[Row]:
    return list(await conn.fetch(SQL[name], *arguments, timeout=PATIENCE))


async def _execute(conn: Connection, name: str, *arguments: object) -> int:
    """Run one statement; how many rows its outermost command wrote, 0 where it writes none."""
    status = await conn.execute(SQL[name], *arguments, timeout=PATIENCE)
    count = status.rpartition(" ")[2]
    return int(count) if count.isdecimal() else 0
