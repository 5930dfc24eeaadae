"""Whom streams forget: who has left, or is Inactive, and was not heard of for longer than each of them says.

Elasticity never deletes anybody. `forget_after` does, where a stream has it; erasing is the audience's.
"""

from collections.abc import Mapping

from engine.policy import StreamDefinition
from mtad.base.db import Connection
from mtad.base.sqlfiles import queries

SQL = queries("privacy")

# Contacts looked at in one statement, and so at most erased in one transaction.
PAGE = 500


async def forgettable(conn: Connection, after: int) -> tuple[int | None, list[str]]:
    """Of the contacts after this one, a page: the last of them, None when there are none, and whom streams forget now.

    These by their address keys. Where no stream forgets, nobody is looked at.
    """
    return await _page(conn, after, await _terms(conn), whole=False)


async def count_forgettable(conn: Connection, stream_id: int, term: float) -> int:
    """Whom streams would forget if this one did after `term` seconds, once every tracker is read."""
    terms = {**await _terms(conn), stream_id: term}
    after, found = 0, 0
    while True:
        last, keys = await _page(conn, after, terms, whole=True)
        if last is None:
            return found
        after, found = last, found + len(keys)


async def _terms(conn: Connection) -> dict[int, float]:
    """By stream: after how many seconds; 0 is never."""
    rows = await conn.fetch(SQL["terms_of_streams"])
    return {row[0]: StreamDefinition.from_json(row[1]).forgets_after for row in rows}


async def _page(
    conn: Connection, after: int, terms: Mapping[int, float], *, whole: bool
) -> tuple[int | None, list[str]]:
    if not any(terms.values()):
        return None, []
    row = await conn.fetchrow(SQL["forgettable"], after, [*terms], [*terms.values()], PAGE, whole)
    assert row is not None
    return row[0], row[1]
