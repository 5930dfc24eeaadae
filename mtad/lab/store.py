"""SQL of the lab, sql/queries/lab.sql: it only reads."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries

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
    attributes: dict[str, Any]
    node: str
    reason: str
    at: datetime
    queued: int  # mails of the same program that were queued at that moment


class Told(msgspec.Struct, frozen=True):
    """A mail that the ledger calls delivered or that was once in doubt."""

    program: str
    node: str
    address_key: str
    doubts: int


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
    """Contacts of a stream: new, active, engaged, reactivated, inactive, left, suppressed."""
    return {row["state"]: row["count"] for row in await conn.fetch(SQL["states"], stream)}


async def queued(conn: Connection, program: str) -> int:
    return int(await conn.fetchval(SQL["queued"], program))


async def open_entries(conn: Connection, program: str) -> int:
    return int(await conn.fetchval(SQL["open_entries"], program))


async def enqueued(conn: Connection, program: str) -> bool:
    return bool(await conn.fetchval(SQL["enqueued"], program))


async def workers(conn: Connection) -> list[Living]:
    return [Living(*row_values(row)) for row in await conn.fetch(SQL["workers"])]


async def withdrawn(conn: Connection, program: str, reason: str) -> Withdrawn | None:
    """The first one whose reason is like `reason` (SQL pattern)."""
    row = await conn.fetchrow(SQL["withdrawn"], program, reason)
    return Withdrawn(*row_values(row)) if row else None


async def delivered(conn: Connection) -> list[Told]:
    return [Told(*row_values(row)) for row in await conn.fetch(SQL["copies_of_ledger"])]


async def doubted(conn: Connection) -> list[Told]:
    return [Told(*row_values(row)) for row in await conn.fetch(SQL["doubted"])]


async def hits(conn: Connection) -> list[Hits]:
    return [Hits(*row_values(row)) for row in await conn.fetch(SQL["hits"])]


async def scores_of(conn: Connection, address_keys: Sequence[str]) -> tuple[int, int]:
    """The highest score among these people, and the points that they ever earned."""
    row = await conn.fetchrow(SQL["scores_of"], list(address_keys))
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def deadlocks(conn: Connection) -> int:
    return int(await conn.fetchval(SQL["deadlocks"]))
