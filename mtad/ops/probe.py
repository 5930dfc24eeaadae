"""The probe: asks each tracking address from outside, as a recipient would, whether our tracker answers there.

A name server, a fresh connection, TLS, and a number that only who has the tracking keys can
answer: a proxy's page of errors, a cache or a parked domain is not our tracker.
"""

import asyncio
import secrets
import ssl
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import aiohttp

from engine.service import noticed, recall
from mtad.base.clock import Clock
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.sqlfiles import queries
from mtad.ops.answers.unheard import Asked, asked
from mtad.ops.reach import Reach, after
from mtad.wire.names import Names
from mtad.wire.resolver import Resolver
from tracker.tokens import Keys, is_proof, probe_url

SQL = queries("reach")

# An answer that takes longer helps no recipient either; seconds.
PATIENCE = 10.0

# Addresses asked at a time.
ABREAST = 20

# Hits may be ingested so late, and still prove that somebody came through.
LATE = timedelta(hours=1)


class Probe:
    """Asks, and writes down what it found."""

    def __init__(self, pool: Pool, clock: Clock, keys: Keys, default: str, resolver: Resolver) -> None:
        """`default`: the address of streams that say none."""
        self._pool = pool
        self._clock = clock
        self._keys = keys
        self._default = default
        self._resolver = resolver

    async def run(self) -> int:
        """Ask every address once; nothing that would have to be done again at once."""
        async with self._pool.acquire() as conn:
            streams = await asked(conn)
        wrong = await self._ask({one.url or self._default for one in streams})
        # A worker that was busy for once, or a packet that was lost, holds up nothing.
        wrong |= await self._ask({address for address, why in wrong.items() if why})
        at = self._clock.now()
        await in_transaction(self._pool, lambda conn: self._write(conn, streams, wrong, at))
        return 0

    async def _ask(self, addresses: Collection[str]) -> dict[str, str]:
        """By address: '' where our tracker answers, else what came instead."""
        if not addresses:
            return {}
        places = asyncio.Semaphore(ABREAST)
        # Nothing is remembered but what DNS said, for as long as it allows: a recipient comes for the first time.
        tls = await asyncio.to_thread(ssl.create_default_context)
        names = Names(self._resolver)
        connector = aiohttp.TCPConnector(resolver=names, use_dns_cache=False, force_close=True, ssl=tls)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(PATIENCE)) as http:

            async def ask(address: str) -> str:
                async with places:
                    return await _answer(http, address, self._keys)

            ordered = sorted(addresses)
            return dict(zip(ordered, await asyncio.gather(*map(ask, ordered)), strict=True))

    async def _write(self, conn: Connection, streams: Sequence[Asked], wrong: Mapping[str, str], at: datetime) -> None:
        of: defaultdict[str, list[Asked]] = defaultdict(list)
        for one in streams:
            of[one.url or self._default].append(one)
        failing = (address for address, why in wrong.items() if why)
        came = {address for address in failing if await _came_through(conn, address, of[address], at)}
        found: dict[int, Reach] = {}
        for one in streams:
            address = one.url or self._default
            found[one.id], over = after(one.found, address, at, wrong[address], noticed=address in came)
            if over:
                await conn.execute(SQL["note_unreached"], one.id, over.since, over.until)
                # What was concluded before the first failure was found.
                await recall(conn, one.id, over.since)
        columns = [list(column) for column in zip(*((id_, *_values(one)) for id_, one in found.items()), strict=True)]
        if columns:
            await conn.execute(SQL["write_reach"], *columns)


async def forget(pool: Pool) -> int:
    """The probe is off: what it found last says nothing any more. Spans that are over stay."""
    async with pool.acquire() as conn:
        await conn.execute(SQL["forget_reach"])
    return 0


def _values(reach: Reach) -> tuple[object, ...]:
    return tuple(getattr(reach, name) for name in Reach.__struct_fields__)


async def _came_through(conn: Connection, address: str, streams: Sequence[Asked], at: datetime) -> bool:
    """Whether a recipient of any stream has, although the address never answered; after that it is not asked again."""
    known = {one.id: one.found for one in streams if one.found and one.found.address == address}
    if not known or any(found.answered for found in known.values()):
        return False
    if any(found.failures and not found.holds for found in known.values()):
        return True
    since = min(max(found.good, found.asked - LATE) for found in known.values())
    return await noticed(conn, list(known), since, at)


async def _answer(http: aiohttp.ClientSession, address: str, keys: Keys) -> str:
    """'' where our tracker answers; else what came instead."""
    number = secrets.token_hex(16)
    try:
        async with http.get(probe_url(address, number), allow_redirects=False) as answer:
            body = await answer.content.read(64)
    except TimeoutError:
        return f"no answer within {PATIENCE:g} s"
    except (aiohttp.ClientError, OSError) as error:
        cause = getattr(error, "os_error", error)
        return str(cause) or type(error).__name__
    if is_proof(keys, number, body.decode("ascii", "replace")):
        return ""
    return f"it answers {answer.status}, but not what our tracker would"
