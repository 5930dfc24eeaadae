"""A bad segment holds up nobody, and nothing of it is thrown away."""

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from mtad.base.db import Pool
from tests.tracker.made import World, hit
from tests.tracker.test_tracker import segments, serving, until, write_segment
from tracker import ingest
from tracker.journal import decode, encode


@pytest.fixture
async def world(pool: Pool) -> World:
    world = await World(pool).seed(settle=0.0)
    await world.ended(1)
    return world


def aside(state: Path) -> list[Path]:
    return sorted((state / "journal").rglob("*.bad"))


async def drained(pool: Pool, state: Path) -> int:
    """Have all segments ingested; the hits that are in the database then."""

    async def gone() -> bool:
        return not segments(state)

    async with serving(pool, state):
        await until(gone)
    return int(await pool.fetchval("select count(*) from pending"))


async def test_a_damaged_segment_is_put_aside_when_all_else_of_it_is_in_the_database(
    pool: Pool, world: World, tmp_path: Path
) -> None:
    one, two = encode(hit()), encode(hit())
    write_segment(tmp_path, "7", [], one[:-3] + b"xxx" + two)
    before = REGISTRY.get_sample_value("mtad_tracker_quarantined_total") or 0

    assert await drained(pool, tmp_path) == 1
    assert [path.read_bytes() for path in aside(tmp_path)] == [one[:-3] + b"xxx" + two]
    assert REGISTRY.get_sample_value("mtad_tracker_quarantined_total") == before + 1


async def test_a_torn_tail_is_no_damage(pool: Pool, world: World, tmp_path: Path) -> None:
    write_segment(tmp_path, "7", [hit()], encode(hit())[:30])

    assert await drained(pool, tmp_path) == 1
    assert aside(tmp_path) == []


async def test_a_hit_that_the_database_refuses_is_put_aside_alone(pool: Pool, world: World, tmp_path: Path) -> None:
    bad = hit(agent="Mozilla/5.0 \0 Firefox")
    write_segment(tmp_path, "7", [hit() for _ in range(20)] + [bad] + [hit() for _ in range(20)])

    assert await drained(pool, tmp_path) == 40
    assert [decode(path.read_bytes()).hits for path in aside(tmp_path)] == [[bad]]


async def test_a_segment_that_the_disk_does_not_give_back_does_not_hold_up_the_others(
    pool: Pool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = write_segment(tmp_path, "7", [hit()])
    write_segment(tmp_path, "8", [hit()])

    real = ingest._read

    def reading(path: Path, start: int, end: int) -> bytes:
        if path == broken:
            raise OSError(5, "Input/output error")
        return real(path, start, end)

    monkeypatch.setattr(ingest, "_read", reading)

    assert await drained(pool, tmp_path) == 1
    assert [path.parent.name for path in aside(tmp_path)] == ["7"]
