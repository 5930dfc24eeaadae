import random
from pathlib import Path

import pytest

from benchmarks.place import Place
from benchmarks.race import Plan, one_round
from benchmarks.race_ways import WAYS
from mtad.base.db import Pool
from mtad.lab.installation import Installation
from mtad.ops.install import install
from mtad.ops.postgres import Postgres

PLAN = Plan(
    contacts=320, ineligible=121, rounds=1, workers=2, sites=4, sessions=4, unfenced=False, seed=5, limit=280, json=None
)


async def test_nothing_begins_after_the_commit_that_disqualifies_it_in_any_of_eleven_ways(
    pool: Pool, database_url: str, tmp_path: Path
) -> None:
    if await pool.fetchval("show track_commit_timestamp") != "on":
        pytest.skip("this server notes no commit times")
    install(tmp_path, "example.com", "s1", dkim="ed25519")
    place = Place(Installation(tmp_path), Postgres(tmp_path), PLAN.workers)
    try:
        found = await one_round(PLAN, place, pool, random.Random(PLAN.seed), database=database_url)
    finally:
        await place.stop()

    assert set(found.ways) == set(WAYS)
    assert {way: told.violations for way, told in found.ways.items() if told.violations} == {}
    # Else nothing would have been raced: of each way some were stopped, and some had had their mail.
    assert [way for way, told in found.ways.items() if not (told.disqualified and told.sent)] == []
    assert sum(told.in_hand for told in found.ways.values()) > len(WAYS)
    # Not `late`: how soon the receiver looks is a matter of what else the machine does.
    assert found.early == 0
    assert found.data > PLAN.contacts - PLAN.ineligible
