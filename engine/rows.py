"""The rows of contacts on streams in the database: lock, read, write, log. SQL: sql/queries/engine.sql."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from engine.replay import NEVER
from engine.score import Key
from engine.states import Row, State, Transition
from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries

SQL = queries("engine")

# No row of an index stands before it.
FIRST = (NEVER, 0)


class Kept(msgspec.Struct, frozen=True, gc=False):
    """A row as it is stored: the machine's, and its place in time."""

    row: Row
    told: datetime  # of the last fact or timer that is in it
    held: datetime | None = None  # it is replayed once every journal has been read up to here
    wake_at: datetime | None = None  # not later than its next timer; earlier where that was put off


class Change(msgspec.Struct, frozen=True, gc=False):
    """A transition to log. `takes_back`: the row of the log that turned out not to have happened."""

    transition: Transition
    takes_back: int | None = None


async def lock_rows(conn: Connection, keys: Collection[Key]) -> dict[Key, Kept]:
    """Lock and read rows, in order; those that exist."""
    ordered = sorted(set(keys))
    rows = await conn.fetch(SQL["lock_engagements"], [key[0] for key in ordered], [key[1] for key in ordered])
    return {(row[0], row[1]): _kept(row_values(row)) for row in rows}


async def take_due(
    conn: Connection, stream: int, heard: datetime, after: tuple[datetime, int] = FIRST
) -> dict[Key, Kept]:
    """Lock up to 1,000 rows of a stream that are due, behind a (time, contact), in that order."""
    rows = await conn.fetch(SQL["take_due"], stream, heard, *after)
    return {(row[0], row[1]): _kept(row_values(row)) for row in rows}


async def bases(conn: Connection, keys: Collection[Key]) -> dict[Key, Kept]:
    """Where replays begin that do not begin with New."""
    rows = await conn.fetch(SQL["bases"], [key[0] for key in keys], [key[1] for key in keys])
    return {(row[0], row[1]): _kept(row_values(row)) for row in rows}


async def set_bases(conn: Connection, keys: Collection[Key]) -> None:
    """From now on replays begin with these rows as they are; they are locked."""
    asked = [key[0] for key in keys], [key[1] for key in keys]
    await conn.execute(SQL["drop_bases"], *asked)
    await conn.execute(SQL["set_bases"], *asked)


async def write_bases(conn: Connection, bases: Mapping[Key, Kept]) -> None:
    """Replays of these rows, which are locked, begin here."""
    kept = list(bases.values())
    keys = [key[0] for key in bases], [key[1] for key in bases]
    await conn.execute(SQL["drop_bases"], *keys)
    await conn.execute(
        SQL["write_bases"],
        *keys,
        [stored(one.row.state) for one in kept],
        *([getattr(one.row, name) for one in kept] for name in _COLUMNS),
        [one.told for one in kept],
    )


def _kept(values: tuple[Any, ...]) -> Kept:
    return Kept(Row(State(values[2]), *values[3:14]), *values[14:])


async def write_rows(conn: Connection, rows: Mapping[Key, Kept], moved: Collection[Key]) -> None:
    """Rows that are locked, as they are now; `moved`: whose state changed."""
    kept = list(rows.values())
    await conn.execute(
        SQL["write_engagements"],
        [key[0] for key in rows],
        [key[1] for key in rows],
        [stored(one.row.state) for one in kept],
        *([getattr(one.row, name) for one in kept] for name in _COLUMNS),
        [one.told for one in kept],
        [one.held for one in kept],
        [one.wake_at for one in kept],
        [key in moved for key in rows],
    )


# Of Row, in the order of the query.
_COLUMNS = (
    "since", "score", "round_from", "last_sign", "first_sent", "cycle", "cool_until",
    "window_until", "veiled", "ignored", "unclear",
)  # fmt: skip


async def log(conn: Connection, changes: Sequence[tuple[Key, Change]]) -> None:
    """Log transitions in their order."""
    moves = [change.transition for _, change in changes]
    await conn.execute(
        SQL["add_transitions"],
        [key[0] for key, _ in changes],
        [key[1] for key, _ in changes],
        [None if move.from_state is None else stored(move.from_state) for move in moves],
        [stored(move.to_state) for move in moves],
        [move.why for move in moves],
        [move.fact for move in moves],
        [move.at for move in moves],
        [change.takes_back for _, change in changes],
    )


def stored(state: State) -> str:
    """The name of a state in the database, where New is active."""
    return State.ACTIVE if state is State.NEW else state
