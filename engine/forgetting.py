"""Whom streams forget: who has left, or is Inactive, and was not heard of for longer than each of them says.

Elasticity never deletes anybody. `forget_after` does, where a stream has it; erasing is the audience's.
"""

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
    streams = await conn.fetch(SQL["terms_of_streams"])
    terms = {row[0]: StreamDefinition.from_json(row[1]).forgets_after for row in streams}
    if not any(terms.values()):
        return None, []
    row = await conn.fetchrow(SQL["forgettable"], after, [*terms], [*terms.values()], PAGE)
    assert row is not None
    return row[0], row[1]
