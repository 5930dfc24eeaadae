import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.folded import Folded, folded, until_folded
from benchmarks.stress import Report, Told
from engine.policy import Policy, StreamDefinition
from engine.service import fold_signs
from mtad.base.db import Pool, in_transaction
from tests.benchmarks.program import run
from tests.tracker.made import World, hit
from tracker import store
from tracker.service import ripen


def test_no_answered_hit_is_lost_doubled_or_folded_twice_by_a_kill_or_an_outage_and_no_click_fails_without_postgres(
    tmp_path: Path,
) -> None:
    out = tmp_path / "stress.json"
    code, said = run(
        "stress", "--kills", "1", "--outage", "0.5", "--rate", "100", "--connections", "8", "--contacts", "20",
        "--settle", "0.2", "--sink", "lab", "--limit", "280", "--json", str(out),
    )  # fmt: skip

    assert code == 0, said
    found = json.loads(out.read_bytes())
    assert set(found) == set(Report.__struct_fields__)
    for trouble in ("under_kills", "under_outage"):
        told = found[trouble]
        assert set(told) == set(Told.__struct_fields__)
        assert (told["lost"], told["doubled"], told["answered"] + told["failed"]) == (0, 0, told["sent"])
        assert told["answered"] > 50
        assert told["misfolded"] == 0
    assert 0 < found["under_kills"]["answers"] < found["under_outage"]["answers"]
    assert found["under_outage"]["failed"] == 0


@pytest.mark.parametrize(
    "tampered",
    [
        "update engagement set score = score + 1",  # a hit folded twice
        "delete from event where kind = 'click'",  # folded, and not there
        "delete from answer where kind = 'click'",
    ],
)
async def test_a_person_of_whom_a_replay_says_something_else_is_found(pool: Pool, tampered: str) -> None:
    world = await World(pool).seed(settle=0.0)
    now = datetime.now(UTC)
    await world.ended(1, at=now - timedelta(minutes=2))
    await pool.execute(
        "insert into engagement (stream_id, contact_id, since, round_from) values ($1, $2, $3, $3)",
        world.stream, world.contact, now - timedelta(minutes=2),
    )  # fmt: skip
    news = StreamDefinition(name="news", from_="a@example.com", tracking="full", policy=Policy(settle=0.0))
    await pool.execute("update stream_version set definition = $1", news.to_json())
    await world.worker(ingested_until=now)
    clicks = [hit(link=link, at=now - timedelta(minutes=1)) for link in world.links[:2]]
    await in_transaction(pool, lambda conn: store.ingest(conn, clicks))
    await ripen(pool, fold_signs)
    await until_folded(pool)

    assert await folded(pool) == Folded(answers=1, wrong=0)
    await pool.execute(tampered)
    assert (await folded(pool)).wrong == 1


@pytest.mark.parametrize("arguments", [["--kills=-1"], ["--kills=0", "--outage=0"], ["--contacts=0"]])
def test_arguments_that_ask_for_nothing_are_refused(arguments: list[str]) -> None:
    code, said = run("stress", *arguments)

    assert code == 2
    assert arguments[0].partition("=")[0] in said.splitlines()[-1]
