"""What is held back, until when, why and by whom: one list for operators and for rules on replies.

A suspension holds a lane (source/site), a site, a source, a domain or a campaign. From
the commit on that makes it nothing that it holds begins: lanes carry it in their row,
which begin reads, and of domains and campaigns the gate hears by the epoch, which begin
compares. Suspended mail waits with its due time untouched; its age still counts.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, get_args

import msgspec

from engine.service import raise_epoch
from mtad.base.db import Connection, Pool, in_transaction, row_values
from mtad.base.sqlfiles import queries
from mtad.queue import store

SQL = queries("suspend")

Kind = Literal["lane", "site", "domain", "source", "campaign"]
KINDS: tuple[str, ...] = get_args(Kind)
_LANES, _GATED = {"lane", "site", "source"}, {"domain", "campaign"}

# The hand that holds what rules on replies hold; any other is a user.
AUTOMATION = "automation"


class Suspension(msgspec.Struct, frozen=True):
    """One that is in force. `until` None: until it is lifted."""

    id: int
    kind: str
    key: str  # lane: source/site; site: its name; campaign: the program's name
    until: datetime | None
    reason: str
    made_by: str
    made: datetime


def lane_key(source: str, site: str) -> str:
    """The key of a lane."""
    return f"{source}/{site}"


async def suspend(
    conn: Connection, kind: Kind, key: str, *, until: datetime | None, reason: str, by: str
) -> Suspension:
    """Hold it from the commit of this transaction on. By the same hand again: the later end wins.

    Locks lanes (and, for domains and campaigns, the epoch), so call it before what locks later ones.
    Whether there is such a lane or domain is not asked: it may come.
    """
    (row,) = await conn.fetch(SQL["suspend"], kind, key, until, reason, by)
    await _tell(conn, {kind})
    return Suspension(*row_values(row))


async def lift(conn: Connection, *, kind: str | None = None, key: str | None = None, id_: int | None = None,
               by: str) -> list[Suspension]:  # fmt: skip
    """Hold it no longer, whoever held it; what was lifted, empty when nothing was held."""
    lifted = [Suspension(*row_values(row)) for row in await conn.fetch(SQL["lift"], kind, key, id_, by)]
    await _tell(conn, {row.kind for row in lifted})
    campaigns, domains = ([row.key for row in lifted if row.kind == kind] for kind in ("campaign", "domain"))
    if campaigns or domains:
        await store.wake_sites(conn, [row[0] for row in await conn.fetch(SQL["wake_suspended"], campaigns, domains)])
    return lifted


async def suspensions(conn: Connection) -> list[Suspension]:
    """All that are in force, oldest first."""
    return [Suspension(*row_values(row)) for row in await conn.fetch(SQL["suspensions"])]


async def expire_held(pool: Pool, site: str) -> int:
    """Have mail that grew too old behind a closed or suspended lane ended by the gate, at this site; how many."""

    async def work(conn: Connection) -> int:
        return len(await conn.fetch(SQL["expire_held"], site))

    return await in_transaction(pool, work)


async def _tell(conn: Connection, kinds: Iterable[str]) -> None:
    """Have what they hold, or held, hear of it with this commit."""
    if _LANES & set(kinds):
        await store.wake_sites(conn, [row[0] for row in await conn.fetch(SQL["suspend_lanes"])])
    if _GATED & set(kinds):
        await raise_epoch(conn)
