"""Postgres. The only module that imports asyncpg.

Three rules stand here because every caller would otherwise repeat them:

* A transaction that lost against another (40P01, 40001) is run again, and counted:
  in a normal run the count stays 0, because every statement locks in one order.
* Plans are generic (`plan_cache_mode`) and never compiled (`jit`): a hot statement
  that is planned anew for each call costs three times its run.
* A statement, and a transaction that idles, ends by itself: the horizon of vacuum
  must not depend on a forgotten connection.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import msgspec
from prometheus_client import Counter

from mtad.base.errors import DatabaseAway, Unavailable

log = logging.getLogger("mtad.db")

# What asyncpg calls these depends on how a connection was made; ours come from the pool.
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Pool = asyncpg.Pool
Row = asyncpg.Record
T = TypeVar("T")

RETRIED = Counter("mtad_db_retried_total", "Transactions run again after losing to another", ["code"])

# The parameters of a URL, the other place of a password: password, sslpassword.
_PASSWORD = re.compile(r"(password=)[^&]*")

OLDEST_SERVER = 15
STATEMENT_TIMEOUT = "60s"
IDLE_IN_TRANSACTION_TIMEOUT = "30s"

# A database that is away, or cannot serve us now, raises one of these; a service waits
# and tries again. By SQLSTATE class where there is one, for a restart raises more than
# one thinks: 57 an operator or a timeout ended it, 53 no room, 58 its disk, 40 it lost
# against others even when run again. InternalClientError: a connection that is lost
# between the messages of one exchange (14 times in 12 restarts under load).
DATABASE_AWAY = (
    ConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)

# Rows that are refused for what stands in them: asking again would not mend it.
WRONG_DATA = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

# The same where nothing but the database is asked: a socket that cannot be had, a time that is up.
AWAY = (OSError, TimeoutError, *DATABASE_AWAY)


async def _any(_: Connection) -> None:
    """Every connection is admitted."""


async def open_pool(
    url: str,
    *,
    most: int = 8,
    name: str = "mtad",
    least: int = 1,
    hot: bool = False,
    admit: Callable[[Connection], Awaitable[None]] = _any,
) -> Pool:
    """Connect, or raise Unavailable with one line that names the server. `least` 0: connect when asked.

    DatabaseAway when it does not answer, or cannot now; not when it refuses us: a password, a name. A connection
    of which `admit` raises is given to nobody: who asked for it gets the error. `hot`: for a worker's statements,
    which take a few rows in the order of an index. A bitmap reads all that match before the first is known: where
    statistics do not tell who holds jobs, a claim of 64 did so with all of a site's.
    """

    async def init(conn: Connection) -> None:
        await _prepare(conn)
        await admit(conn)

    try:
        pool = await asyncpg.create_pool(
            url,
            min_size=least,
            max_size=most,
            init=init,
            reset=_keep,
            timeout=10,
            command_timeout=90,
            statement_cache_size=512,
            max_inactive_connection_lifetime=0,
            server_settings={
                "application_name": name,
                "plan_cache_mode": "force_generic_plan",
                "jit": "off",
                "enable_bitmapscan": "off" if hot else "on",
                "statement_timeout": STATEMENT_TIMEOUT,
                "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
                "timezone": "UTC",
            },
        )
    except (*AWAY, asyncpg.PostgresError, ValueError, OverflowError) as error:  # the last two: of a bad URL
        away = isinstance(error, AWAY) and not isinstance(error, ValueError)
        refusal = DatabaseAway if away else Unavailable
        raise refusal(f"database {without_password(url)}: {_first_line(error)}") from error
    return pool


async def _keep(conn: Connection) -> None:
    """Back to the pool as it is: whatever we set, we set for one transaction, and who locks unlocks.

    The default, RESET ALL and more, is a round trip for each use of a connection.
    """
    if conn.is_in_transaction():
        await conn.reset()


async def _prepare(conn: Connection) -> None:
    """Speak JSON as Python values, so that no caller does."""
    for kind in ("json", "jsonb"):
        await conn.set_type_codec(
            kind,
            schema="pg_catalog",
            encoder=lambda value: msgspec.json.encode(value).decode(),
            decoder=msgspec.json.decode,
            format="text",
        )


async def in_transaction(pool: Pool, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run `work` in one transaction; again, up to 5 times, when it lost against another."""

    async def within(conn: Connection) -> T:
        async with conn.transaction():
            return await work(conn)

    return await run_again(pool, within)


async def run_again(pool: Pool, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run `work` on a connection; again, up to 5 times, when its transaction lost against another.

    For work of one statement, which is a transaction by itself and saves two round trips.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            async with pool.acquire() as conn:
                return await work(conn)
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
            RETRIED.labels(code=error.sqlstate).inc()
            log.warning("transaction lost against another", extra={"code": error.sqlstate, "attempt": attempt})
            if attempt == 5:
                raise
            await asyncio.sleep(0.01 * attempt)


def without_password(url: str) -> str:
    """A database URL that may be shown."""
    scheme, sep, rest = url.partition("://")
    userinfo, at, host = rest.rpartition("@")
    user = userinfo.partition(":")[0]
    return _PASSWORD.sub(r"\1…", f"{scheme}{sep}{user}{at}{host}")


def _first_line(error: BaseException) -> str:
    if isinstance(error, ValueError | OverflowError):
        return "is no URL of a database"  # never what it says: that quotes the URL, and with it a password
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text or type(error).__name__).splitlines()[0]


def row_values(row: Row) -> tuple[Any, ...]:
    """The columns of a row in order, for filling a struct."""
    return tuple(row)
