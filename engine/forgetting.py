"""Whom streams forget: who has left, or is Inactive, and was not heard of for longer than each of them says.

Elasticity never deletes anybody. `forget_after` does, where a stream has it; erasing is the audience's.
"""

from collections.abc import AsyncIterator, Mapping

from engine.policy import StreamDefinition
from mtad.base.db import Connection
from mtad.base.sqlfiles import queries

SQL = queries("privacy")

# Contacts looked at in one statement: 30 ms.
PAGE = 5000

# By stream: after how many seconds; 0 is never.
Memory = Mapping[int, float]


async def memory(conn: Connection) -> Memory:
    """Of all streams as they are now."""
    rows = await conn.fetch(SQL["terms_of_streams"])
    return {row[0]: StreamDefinition.from_json(row[1]).forgets_after for row in rows}


async def forgettable(conn: Connection, terms: Memory) -> AsyncIterator[list[str]]:
    """The address keys of those whom nothing else holds, page by page."""
    after: int | None = 0
    while after is not None and any(terms.values()):
        after, keys = await _page(conn, after, PAGE, terms)
        yield keys


async def is_forgettable(conn: Connection, contact_id: int, terms: Memory) -> bool:
    """Whether the contact is one of them, now."""
    return bool((await _page(conn, contact_id - 1, 1, terms))[1])


async def _page(conn: Connection, after: int, most: int, terms: Memory) -> tuple[int | None, list[str]]:
    row = await conn.fetchrow(SQL["forgettable"], after, [*terms], [*terms.values()], most)
    assert row is not None
    return row[0], row[1]
