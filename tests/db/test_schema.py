"""The schema as a whole."""

from mtad.base.db import Pool
from mtad.base.migrate import migrate, migration_files, require_schema


async def test_migrating_twice_changes_nothing(pool: Pool) -> None:
    assert await migrate(pool) == []
    await require_schema(pool)
    assert await pool.fetchval("select max(version) from schema_version") == len(migration_files())


async def test_partitions_reach_ahead_of_the_ids(pool: Pool) -> None:
    await pool.execute("select setval('job_id', 3 * (1 << 24))")

    made = await pool.fetchval("select make_partitions()")

    names = {row[0] for row in await pool.fetch("select relname from pg_class where relname ~ '^ledger_[0-9]+$'")}
    assert made == 6
    assert names == {f"ledger_{n}" for n in range(6)}
    assert await pool.fetchval("select make_partitions()") == 0
