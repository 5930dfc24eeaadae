"""Finding a program or a stream by the name that an operator typed."""

from datetime import datetime

import msgspec

from mtad.base.db import Connection
from mtad.base.errors import InputError
from mtad.base.sqlfiles import queries
from mtad.compose import store
from mtad.compose.store import StreamRow

SQL = queries("answers")


class ProgramRow(msgspec.Struct, frozen=True):
    """One program as it stands; `at` is the moment of the answer."""

    id: int
    name: str
    kind: str  # campaign, series
    stream_id: int
    stream: str
    status: str
    why: str | None  # of the status
    version: int
    created: datetime
    starts: datetime | None
    enqueued: datetime | None  # all of its audience is in
    at: datetime


async def program_by_name(conn: Connection, name: str) -> ProgramRow:
    """The program of that name, or InputError with the names that there are."""
    if row := await conn.fetchrow(SQL["program_by_name"], name):
        return ProgramRow(*row)
    names = [row[0] for row in await conn.fetch(SQL["program_names"])]
    known = f"there are: {', '.join(names)}" if names else "there is none yet; mtad program apply makes one"
    raise InputError(f"program {name!r} is unknown; {known}")


async def known_stream(conn: Connection, name: str) -> StreamRow:
    """The stream of that name, or InputError with the names that there are."""
    if found := await store.stream_by_name(conn, name):
        return found
    others = ", ".join(await store.stream_names(conn)) or "none"
    raise InputError(f"stream {name!r} is unknown; there are: {others}")
