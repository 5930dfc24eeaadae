"""What keeps us from hearing people now: addresses that do not answer, hosts that died with hits unread, no tracker."""

from datetime import datetime

import msgspec

from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries
from mtad.ops.answers.times import local
from mtad.ops.reach import MEND, Reach, trouble

SQL = queries("reach")


class Asked(msgspec.Struct, frozen=True):
    """A stream, where its links lead, and what the probe found there last."""

    id: int
    name: str
    url: str  # '': that of the configuration
    found: Reach | None


class Unheard(msgspec.Struct, frozen=True):
    """What is wrong; no silence is believed beyond `since` on `streams` (none: on any), unless `holds` is false."""

    about: str  # tracker.url, host
    name: str  # of the address, or of the host
    why: str
    mend: str
    since: datetime
    holds: bool
    streams: tuple[str, ...] = ()


async def asked(conn: Connection) -> list[Asked]:
    """Every stream."""
    rows = [row_values(row) for row in await conn.fetch(SQL["addresses"])]
    return [Asked(id_, name, url, Reach(*found) if known else None) for id_, name, url, known, *found in rows]


async def unheard(conn: Connection) -> list[Unheard]:
    """Addresses out of reach, hosts whose journals nobody has read, and no tracker at all; none where all is well."""
    by_address: dict[str, tuple[Reach, list[str]]] = {}
    for one in await asked(conn):
        if one.found and trouble(one.found):
            by_address.setdefault(one.found.address, (one.found, []))[1].append(one.name)
    found = [
        Unheard("tracker.url", address, trouble(reach), MEND, reach.good, reach.holds, tuple(names))
        for address, (reach, names) in sorted(by_address.items())
    ]
    for host, read, dead in await conn.fetch(SQL["unread_hosts"]):
        why = (
            f"{host}: a worker died at {local(dead)} and left hits that nobody has read; until they are, for"
            f" 7 days at most, silence is believed up to {local(read)} only"
        )
        found.append(Unheard("host", host, why, f"start mtad on {host}, with its state folder", read, holds=True))
    if gone := await conn.fetchval(SQL["deaf_since"]):
        why = f"no worker hears hits since {local(gone)}; silence is believed up to then only"
        found.append(Unheard("host", "every host", why, "start mtad with the role tracker", gone, holds=True))
    return found
