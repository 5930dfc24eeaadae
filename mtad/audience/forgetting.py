"""Erases whom each of their streams forgets (`forget_after`, engine/forgetting.py). Off by default."""

import logging
from functools import partial

from engine.service import Memory, forgettable, is_forgettable, memory
from mtad.audience.persons import erase
from mtad.base.config import Config
from mtad.base.db import Connection, Pool
from mtad.base.errors import ConfigError

log = logging.getLogger("mtad.retention")

# Who did it.
BY = "forget_after"


async def forget(pool: Pool, config: Config) -> int:
    """As `mtad contact erase` does it, with a keyed hash left of each; how many."""
    forgotten = 0
    async with pool.acquire() as conn:
        terms = await memory(conn)
        async for keys in forgettable(conn, terms):
            for key in keys:
                try:
                    done = await erase(pool, config, key, BY, still=partial(_still, address_key=key, terms=terms))
                except ConfigError as error:
                    log.warning("nobody is forgotten", extra={"why": str(error)})
                    return forgotten
                forgotten += done.contacts
    return forgotten


async def _still(conn: Connection, *, address_key: str, terms: Memory) -> bool:
    """Locked: nothing was heard meanwhile."""
    contact: int | None = await conn.fetchval("select id from contact where address_key = $1", address_key)
    return contact is not None and await is_forgettable(conn, contact, terms)
