"""Erases whom each of their streams forgets (`forget_after`, engine/forgetting.py). Off by default."""

import logging

from engine.service import forgettable
from mtad.audience.keyed import SuppressionKey
from mtad.audience.persons import erase_each, suppression_key_in_use
from mtad.base.config import Config
from mtad.base.db import Connection, Pool
from mtad.base.errors import ConfigError

log = logging.getLogger("mtad.retention")

# Who did it.
BY = "forget_after"

# A run ends once it has erased so many: the next goes on behind them.
MOST = 1000


class Forgetter:
    """Erases page by page, a transaction each, as `mtad contact erase` does it: a keyed hash is left of each."""

    def __init__(self, pool: Pool, config: Config) -> None:
        self._pool = pool
        self._config = config
        self._after = 0

    async def run(self) -> int:
        """Up to the last contact, or until `MOST` are erased; how many."""
        forgotten, key = 0, None
        while forgotten < MOST:
            async with self._pool.acquire() as conn:
                last, keys = await forgettable(conn, self._after)
            if last is None:
                self._after = 0
                break
            if keys:
                try:
                    key = key or await suppression_key_in_use(self._pool, self._config)
                except ConfigError as error:
                    log.warning("nobody is forgotten", extra={"why": str(error)})
                    break
                forgotten += await self._erase(key, keys)
            self._after = last
        return forgotten

    async def _erase(self, key: SuppressionKey, keys: list[str]) -> int:
        async def still(conn: Connection) -> list[str]:
            return (await forgettable(conn, self._after))[1]

        return await erase_each(self._pool, self._config, key, keys, BY, still)
