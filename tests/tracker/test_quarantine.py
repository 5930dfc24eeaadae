"""A bad segment holds up nobody, and nothing of it is thrown away."""

import errno
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from mtad.base.db import Pool
from tests.clock import ManualClock
from tests.tracker.made import NOON, World, hit, unsubscribe
from tests.tracker.outside import appended
from tests.tracker.test_tracker import segments, serving, until, write_segment
from tests.tracker.test_writer import running
from tracker import ingest
from tracker.ingest import PATIENCE, REST, Ingest, Unsubscribe
from tracker.journal import decode, encode
from tracker.writer import Journal


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


async def test_damage_to_the_last_record_is_no_torn_tail(pool: Pool, world: World, tmp_path: Path) -> None:
    damaged = encode(hit())[:-3] + b"xxx"
    write_segment(tmp_path, "7", [hit()], damaged)

    assert await drained(pool, tmp_path) == 1
    assert [path.read_bytes().endswith(damaged) for path in aside(tmp_path)] == [True]


async def nobody_leaves(**_: object) -> None:
    """Stands for the commit of an unsubscribe."""


def reader(pool: Pool, journal: Journal, leave: Unsubscribe = nobody_leaves, worker: int | None = None) -> Ingest:
    """It reads when told, and time stands still."""
    return Ingest(pool, journal, leave, lambda: worker, ManualClock(NOON + timedelta(hours=1)))


async def test_what_was_closed_in_order_cannot_be_torn(
    pool: Pool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.writer.MAX_AGE", 0.0)
    async with running(Journal(tmp_path / "journal", 0)) as journal:
        await appended(journal, hit())
        (segment,) = await journal.segments()
        segment.path.write_bytes(segment.path.read_bytes()[:-3])
        await reader(pool, journal).round()

        assert len(aside(tmp_path)) == 1


async def test_an_error_that_passes_puts_nothing_aside_and_holds_the_watermark_but_not_the_others(
    pool: Pool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = write_segment(tmp_path, "7", [hit()])
    write_segment(tmp_path, "8", [hit()])
    worker = await world.worker()
    real = ingest._read

    def reading(path: Path, start: int, end: int) -> bytes:
        if path == held:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, start, end)

    async def read_until() -> datetime | None:
        return await pool.fetchval("select nullif(ingested_until, '-infinity') from worker")  # type: ignore[no-any-return]

    async with running(Journal(tmp_path / "journal", 0)) as journal:
        ingesting = reader(pool, journal, worker=worker)
        with monkeypatch.context() as patched:
            patched.setattr(ingest, "_read", reading)
            with pytest.raises(OSError, match="Too many open files"):
                await ingesting.round()
        assert (segments(tmp_path), aside(tmp_path)) == ([held], [])
        assert (await pool.fetchval("select count(*) from pending"), await read_until()) == (1, None)

        assert await ingesting.round() == await read_until()
    assert (segments(tmp_path), aside(tmp_path)) == ([], [])
    assert await pool.fetchval("select count(*) from pending") == 2


async def test_an_unsubscribe_with_a_defect_is_left_alone_for_a_while(pool: Pool, world: World, tmp_path: Path) -> None:
    kept = write_segment(tmp_path, "7", [unsubscribe(world.contact, world.program)])
    tried = []

    async def defect(**what: object) -> None:
        tried.append(what)
        raise ValueError("a defect")

    async with running(Journal(tmp_path / "journal", 0)) as journal:
        ingesting = reader(pool, journal, defect)
        clock = ingesting._clock
        assert isinstance(clock, ManualClock)
        for tries in (1, 2):
            for _ in range(3):
                await ingesting.round()
            assert (len(tried), segments(tmp_path)) == (tries, [kept])
            await clock.advance(REST)


async def test_a_hit_that_the_database_refuses_is_put_aside_alone(pool: Pool, world: World, tmp_path: Path) -> None:
    bad = hit(agent="Mozilla/5.0 \0 Firefox")
    write_segment(tmp_path, "7", [hit() for _ in range(20)] + [bad] + [hit() for _ in range(20)])

    assert await drained(pool, tmp_path) == 40
    assert [decode(path.read_bytes()).hits for path in aside(tmp_path)] == [[bad]]


async def test_a_segment_that_the_disk_does_not_give_back_for_long_holds_up_nobody(
    pool: Pool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = write_segment(tmp_path, "7", [hit()])
    write_segment(tmp_path, "8", [hit()])

    real = ingest._read

    def reading(path: Path, start: int, end: int) -> bytes:
        if path == broken:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, start, end)

    monkeypatch.setattr(ingest, "_read", reading)

    async with running(Journal(tmp_path / "journal", 0)) as journal:
        ingesting = reader(pool, journal)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                await ingesting.round()
            assert (segments(tmp_path), aside(tmp_path)) == ([broken], [])
        assert await pool.fetchval("select count(*) from pending") == 1

        assert isinstance(ingesting._clock, ManualClock)
        await ingesting._clock.advance(PATIENCE)
        await ingesting.round()
    assert [path.parent.name for path in aside(tmp_path)] == ["7"]


async def test_a_disk_that_takes_no_writes_holds_up_neither_what_is_read_nor_the_watermark(
    pool: Pool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [write_segment(tmp_path, slot, [hit()]) for slot in ("7", "8")]
    refused = write_segment(tmp_path, "9", [hit(agent="Mozilla/5.0 \0 Firefox"), hit()])
    worker = await world.worker()

    def read_only(*_: object) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    async def read_until() -> datetime | None:
        return await pool.fetchval("select nullif(ingested_until, '-infinity') from worker")  # type: ignore[no-any-return]

    async with running(Journal(tmp_path / "journal", 0)) as journal:
        ingesting = reader(pool, journal, worker=worker)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", read_only)
            patched.setattr(ingest, "put_aside", read_only)
            with pytest.raises(OSError, match="Read-only"):
                await ingesting.round()
            assert (segments(tmp_path), await read_until()) == ([*left, refused], None)
            assert await pool.fetchval("select count(*) from pending") == 2

            refused.rename(tmp_path / "refused")
            with pytest.raises(OSError, match="Read-only"):
                await ingesting.round()
            assert await read_until() is not None

        (tmp_path / "refused").rename(refused)
        await ingesting.round()
    assert segments(tmp_path) == []
    assert len(aside(tmp_path)) == 1
    assert await pool.fetchval("select count(*) from pending") == 3
