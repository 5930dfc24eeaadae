"""Forward-only migrations from sql/migrations/NNNN_what.sql, each in a transaction of its own."""

import re
from pathlib import Path

from mtad.base.db import OLDEST_SERVER, Connection, Pool
from mtad.base.errors import Problem, Unavailable
from mtad.base.sqlfiles import sql_root

# Any number will do, as long as nothing else in the database takes the same lock.
LOCK = 0x6D746164

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


def migration_files() -> dict[int, Path]:
    """The migrations by number; they count from 1 without a gap."""
    found = {
        int(match[1]): path
        for path in sorted((sql_root() / "migrations").iterdir())
        if (match := _FILE.fullmatch(path.name))
    }
    if list(found) != list(range(1, len(found) + 1)):
        raise Problem(f"sql/migrations: numbers are not 1 to {len(found)}: {list(found)}")
    return found


async def schema_version(conn: Connection) -> int:
    """The number of the last migration applied; 0 in an empty database."""
    if not await conn.fetchval("select to_regclass('schema_version') is not null"):
        return 0
    return int(await conn.fetchval("select coalesce(max(version), 0) from schema_version"))


async def migrate(pool: Pool) -> list[int]:
    """Apply what is missing, one process at a time; the numbers that were applied."""
    done: list[int] = []
    async with pool.acquire() as conn:
        server = conn.get_server_version().major
        if server < OLDEST_SERVER:
            raise Unavailable(f"the database server is version {server}; {OLDEST_SERVER} or newer is needed")
        await conn.execute("select pg_advisory_lock($1)", LOCK)
        try:
            version = await schema_version(conn)
            files = migration_files()
            if version > len(files):
                raise Problem(f"the database is at schema {version}, this program knows {len(files)}: upgrade it")
            for number in range(version + 1, len(files) + 1):
                async with conn.transaction():
                    if number == 1:
                        await conn.execute(
                            "create table schema_version (version int primary key,"
                            " applied timestamptz not null default now())"
                        )
                    await conn.execute(files[number].read_text(encoding="utf-8"))
                    await conn.execute("insert into schema_version (version) values ($1)", number)
                done.append(number)
        finally:
            await conn.execute("select pg_advisory_unlock($1)", LOCK)
    return done


async def require_schema(pool: Pool) -> None:
    """Refuse to work on a database of another version."""
    async with pool.acquire() as conn:
        await require_schema_of(conn)


async def require_schema_of(conn: Connection) -> None:
    """The same, asked on a connection that one has."""
    version = await schema_version(conn)
    wanted = len(migration_files())
    if version != wanted:
        raise Problem(f"the database is at schema {version}, this program needs {wanted}: run `mtad migrate`")
