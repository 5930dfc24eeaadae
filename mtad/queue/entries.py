"""SQL of entries, sql/queries/entry.sql: people on their way through programs."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from engine.programs import Answers
from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries

SQL = queries("entry")


class DueEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry whose wait is over."""

    id: int
    program_id: int
    version: int
    contact_id: int
    stream_id: int
    node: str
    due: datetime
    stream_version: int
    site_id: int | None
    class_: int
    not_after: datetime | None


class LastMail(msgspec.Struct, frozen=True, gc=False):
    """The last mail of an entry, and what its reader did."""

    node: str
    measured: bool
    shows_opens: bool
    unjudged: bool  # a hit on it waits
    opened: bool
    veiled: bool
    clicked: list[int]  # positions of links

    @property
    def answers(self) -> Answers | None:
        """None: the contact may not be measured."""
        if not self.measured:
            return None
        hidden = self.veiled or not self.shows_opens
        return Answers(True if self.opened else None if hidden else False, frozenset(self.clicked))


async def due_entries(conn: Connection) -> list[DueEntry]:
    """Up to 2,000 entries whose wait is over, of running programs."""
    return [DueEntry(*row_values(row)) for row in await conn.fetch(SQL["due_entries"])]


async def last_answers(conn: Connection, entries: Sequence[int]) -> dict[int, LastMail]:
    """What was done with the last mail of each entry; of which no mail arrived are missing."""
    return {row[0]: LastMail(*row_values(row)[1:]) for row in await conn.fetch(SQL["last_answers"], entries)}


async def move_entries(conn: Connection, moves: Sequence[tuple[int, str, datetime]]) -> int:
    """Have (entry, node, due) wait there; how many still ran."""
    rows = await conn.fetch(SQL["move_entries"], [x[0] for x in moves], [x[1] for x in moves], [x[2] for x in moves])
    return len(rows)


async def lock_gates(conn: Connection, contacts: Sequence[int]) -> None:
    """Lock the fences of these contacts, in order."""
    await conn.fetch(SQL["lock_gates"], contacts)


async def next_mails(conn: Connection, mails: Sequence[tuple[DueEntry, int, datetime]], slot: int) -> int:
    """Queue the next mail of (entry, message, not after); how many were new."""
    return int(
        await conn.fetchval(
            SQL["next_mails"],
            [entry.id for entry, _, _ in mails],
            [entry.node for entry, _, _ in mails],
            [message for _, message, _ in mails],
            [entry.site_id for entry, _, _ in mails],
            [not_after for _, _, not_after in mails],
            slot,
        )
    )


async def end_entries(conn: Connection, ends: Sequence[tuple[int, str]]) -> int:
    """End (entry, why); how many had not ended before."""
    return len(await conn.fetch(SQL["end_entries"], [x[0] for x in ends], [x[1] for x in ends]))
