"""SQL of the lab, sql/queries/lab.sql: it only reads."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries
from mtad.lab.accounts import Ended
from mtad.lab.screen import MailCount

SQL = queries("lab")


class Person(msgspec.Struct, frozen=True):
    """One contact on one stream."""

    contact_id: int
    state: str | None  # None: no mail yet
    score: int
    subscription: str | None


class Living(msgspec.Struct, frozen=True):
    """A worker, and how many mails it has between begin and settle."""

    id: int
    pid: int
    begun: int


class Withdrawn(msgspec.Struct, frozen=True):
    """A mail that was taken out of the queue."""

    address: str
    first_name: str
    node: str
    reason: str
    queued: int  # mails of the same program that were queued at that moment


class Hits(msgspec.Struct, frozen=True):
    """Judged hits of one class and what they earned."""

    class_: str
    count: int
    points: int


async def person(conn: Connection, address_key: str, stream: str) -> Person | None:
    """None while nobody has that address."""
    row = await conn.fetchrow(SQL["person"], address_key, stream)
    return Person(*row_values(row)) if row else None


async def story_of_person(conn: Connection, contact_id: int) -> list[tuple[datetime, str]]:
    """The newest twelve things that happened, newest first."""
    return [(at, text) for at, text in await conn.fetch(SQL["story_of_person"], contact_id)]


async def states(conn: Connection, stream: str) -> dict[str, int]:
    """Contacts of a stream: those of screen.STATES."""
    return {row["state"]: row["count"] for row in await conn.fetch(SQL["states"], stream)}


async def mails(conn: Connection) -> list[MailCount]:
    """All mails of all programs, in the order in which they were made."""
    return [MailCount(*row_values(row)) for row in await conn.fetch(SQL["mails"])]


async def running(conn: Connection, program: str) -> int:
    """Queued jobs and running entries; 0 when it is over."""
    return int(await conn.fetchval(SQL["running"], program))


async def unsettled(conn: Connection) -> int:
    return int(await conn.fetchval(SQL["unsettled"]))


async def workers(conn: Connection) -> list[Living]:
    return [Living(*row_values(row)) for row in await conn.fetch(SQL["workers"])]


async def workers_ever(conn: Connection) -> int:
    return int(await conn.fetchval(SQL["workers_ever"]))


async def withdrawn(conn: Connection, program: str, reason: str) -> Withdrawn | None:
    """The first one with that reason."""
    row = await conn.fetchrow(SQL["withdrawn"], program, reason)
    return Withdrawn(*row_values(row)) if row else None


async def ended(conn: Connection) -> list[Ended]:
    """What the sink's copies are compared with."""
    return [Ended(*row_values(row)) for row in await conn.fetch(SQL["ended"])]


async def hits(conn: Connection) -> list[Hits]:
    return [Hits(*row_values(row)) for row in await conn.fetch(SQL["hits"])]


async def points_of(conn: Connection, address_keys: Sequence[str]) -> int:
    """Points ever earned, and scores held, by these people together."""
    return int(await conn.fetchval(SQL["points_of"], list(address_keys)))


async def got_by_state(conn: Connection, node: str) -> dict[str, int]:
    """How many got a mail, by their state at the send."""
    return {state: count for state, count in await conn.fetch(SQL["got_by_state"], node)}  # noqa: C416 - rows


async def cooling(conn: Connection, stream: str) -> int:
    return int(await conn.fetchval(SQL["cooling"], stream))


async def read(conn: Connection, programs: Sequence[str]) -> int:
    return int(await conn.fetchval(SQL["read"], list(programs)))


async def deadlocks(conn: Connection) -> int:
    return int(await conn.fetchval(SQL["deadlocks"]))
