"""What was acknowledged is on disk."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from tests.tracker.made import NOON, hit, unsubscribe
from tests.tracker.outside import appended
from tracker.hits import Hit
from tracker.journal import decode, encode
from tracker.slots import Slot, put_aside
from tracker.writer import ENOUGH, Journal


@asynccontextmanager
async def running(journal: Journal) -> AsyncIterator[Journal]:
    task = asyncio.create_task(journal.run())
    await journal.owned.wait()
    try:
        yield journal
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.journal"))


def on_disk(folder: Path) -> list[Hit]:
    return [one for path in files(folder) for one in decode(path.read_bytes()).hits]


async def test_append_returns_after_the_hit_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def noted(fd: int) -> None:
        real(fd)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fdatasync", noted)
    one = hit()

    async with running(Journal(tmp_path, 0)) as journal:
        await appended(journal, one)

        assert on_disk(tmp_path) == [one]
        assert synced == [path.stat().st_size for path in files(tmp_path)]


async def test_the_names_of_the_segment_and_of_its_folders_are_synced_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    monkeypatch.setattr(os, "fsync", lambda fd: synced.add(str(Path(f"/proc/self/fd/{fd}").readlink())))

    async with running(Journal(tmp_path / "journal", 0)) as journal:
        await appended(journal, hit())

        assert synced == {str(tmp_path), str(tmp_path / "journal"), str(tmp_path / "journal" / "0")}


async def test_what_arrives_together_shares_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)

    async with running(Journal(tmp_path, 0)) as journal:
        await asyncio.gather(*(appended(journal, hit()) for _ in range(200)))

    assert len(synced) == 1
    assert len(on_disk(tmp_path)) == 200


async def test_groups_are_apart_unless_enough_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.writer.APART", 1e6)

    async with running(Journal(tmp_path, 0)) as journal:
        await appended(journal, hit())  # alone
        waiting = [appended(journal, hit()) for _ in range(ENOUGH - 1)]
        await journal.segments()  # the thread has done what it was asked for

        assert len(on_disk(tmp_path)) == 1
        journal.append([hit(), hit()], lambda _: None)  # more than enough
        async with asyncio.timeout(60):
            await asyncio.gather(*waiting)

    assert len(on_disk(tmp_path)) == 2 + ENOUGH


async def test_a_group_is_whole_entries_and_no_bigger_than_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.writer.GROUP", 4)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    journal = Journal(tmp_path, 0)
    told: list[int] = []  # after how many syncs
    for many in (3, 2, 2, 9, 1):
        journal.append([hit() for _ in range(many)], lambda _: told.append(len(synced)))
    async with running(journal):
        pass

    assert told == [1, 2, 2, 3, 4]
    assert len(on_disk(tmp_path)) == 17


async def test_what_cannot_be_encoded_is_refused_without_its_group(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    before, after = hit(), hit()
    entries = [appended(journal, one) for one in (before, hit(agent="\udc80"), after)]
    async with running(journal):
        told = await asyncio.gather(*entries, return_exceptions=True)

    assert [type(one) for one in told] == [type(None), UnicodeEncodeError, type(None)]
    assert on_disk(tmp_path) == [before, after]


async def test_everything_handed_over_before_the_stop_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    async with running(journal):
        waiting = [asyncio.ensure_future(appended(journal, hit())) for _ in range(2000)]
        await asyncio.sleep(0)

    await asyncio.gather(*waiting)
    assert len(on_disk(tmp_path)) == 2000
    with pytest.raises(RuntimeError, match="any more"):  # and not waited for, for ever
        await journal.segments()
    with pytest.raises(OSError, match="the journal is closed"):
        await appended(journal, hit())


async def test_who_knows_that_nothing_else_comes_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.writer.APART", 3600.0)
    async with running(Journal(tmp_path, 0)) as journal:
        await appended(journal, hit())  # alone
        waiting = asyncio.Event()
        journal.append([hit(), hit()], lambda _: waiting.set(), alone=True)

        async with asyncio.timeout(60):
            await waiting.wait()
    assert len(on_disk(tmp_path)) == 3


async def test_a_slot_has_one_owner(tmp_path: Path) -> None:
    async with running(Journal(tmp_path, 0)) as first, running(Journal(tmp_path, 0)) as second:
        await appended(first, hit())
        await appended(second, hit())

        folders = {path.parent.name for path in files(tmp_path)}
        assert folders == {"0", "0.1"}
        assert await asyncio.to_thread(Slot.claim, tmp_path / "0") is None
    slot = await asyncio.to_thread(Slot.claim, tmp_path / "0")
    assert slot is not None
    slot.release()


async def test_a_full_segment_is_closed_and_the_next_begins(tmp_path: Path) -> None:
    hits = [hit(at=n) for n in range(5)]
    async with running(Journal(tmp_path, 0, segment_bytes=150)) as journal:
        for one in hits:
            await appended(journal, one)

        segments = await journal.segments()
        assert len(segments) > 1
        assert [segment.closed for segment in segments[:-1]] == [True] * (len(segments) - 1)
    assert on_disk(tmp_path) == hits


async def test_a_full_disk_refuses_and_later_hits_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, lost, after = hit(), hit(), hit()
    real = os.write

    def half(fd: int, data: memoryview) -> int:
        if len(data) > 20:
            return real(fd, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    async with running(Journal(tmp_path, 0)) as journal:
        await appended(journal, before)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", half)
            with pytest.raises(OSError, match="No space left"):
                await appended(journal, lost)
        await appended(journal, after)

    assert on_disk(tmp_path) == [before, after]


async def test_without_a_slot_hits_are_refused_at_once_and_kept_when_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.writer.CLAIM_AGAIN", 0.0)
    (tmp_path / "0").touch()  # in place of the folder
    journal = Journal(tmp_path, 0)
    task = asyncio.create_task(journal.run())

    with pytest.raises(OSError, match="the journal has no slot"):
        await appended(journal, hit())
    (tmp_path / "0").unlink()
    await journal.owned.wait()
    await appended(journal, hit())

    assert len(on_disk(tmp_path)) == 1
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_failed_sync_is_never_tried_again_on_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, lost, after = hit(), hit(), hit()

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with running(Journal(tmp_path, 0)) as journal:
        await appended(journal, before)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", broken)
            with pytest.raises(OSError, match="Input/output"):
                await appended(journal, lost)
        await appended(journal, after)

    assert [decode(path.read_bytes()).hits for path in files(tmp_path)] == [[before], [after]]


async def test_the_watermark_stays_before_a_hit_that_is_not_on_disk(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    one = hit(at=5)
    appending = asyncio.ensure_future(appended(journal, one))
    await asyncio.sleep(0)

    assert journal.complete_until(hit(at=60).at) == one.at
    async with running(journal):
        await appending
    assert journal.complete_until(NOON) == NOON


async def test_a_full_journal_takes_no_hits_but_what_people_want_and_says_so(tmp_path: Path) -> None:
    room = 5 * len(encode(hit()))
    leave = unsubscribe(1, 1)
    async with running(Journal(tmp_path, 0, segment_bytes=10, max_bytes=room)) as journal:
        for _ in range(5):
            await appended(journal, hit())
        with pytest.raises(OSError, match="journal is full"):
            appended(journal, hit())
        assert REGISTRY.get_sample_value("mtad_tracker_journal_full") == 1
        await appended(journal, leave)
        with pytest.raises(OSError, match="journal is full"):
            appended(journal, leave)
        assert REGISTRY.get_sample_value("mtad_tracker_journal_bytes") == room + len(encode(leave))

        for path in files(tmp_path):
            path.unlink()
        await journal.segments()

        await appended(journal, hit())
        assert REGISTRY.get_sample_value("mtad_tracker_journal_full") == 0


async def test_what_a_predecessor_left_counts_for_the_bound(tmp_path: Path) -> None:
    async with running(Journal(tmp_path, 0)) as journal:
        await appended(journal, hit())

    async with running(Journal(tmp_path, 0, max_bytes=10)) as journal:
        with pytest.raises(OSError, match="journal is full"):
            appended(journal, hit())


async def test_a_segment_is_closed_when_it_is_old_so_that_it_can_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Journal(tmp_path, 0)) as journal:
        await appended(journal, hit())
        assert [one.closed for one in await journal.segments()] == [False]

        monkeypatch.setattr("tracker.writer.MAX_AGE", 0.0)
        assert [one.closed for one in await journal.segments()] == [True]
        await appended(journal, hit())
        assert len(files(tmp_path)) == 2


def test_what_is_put_aside_is_no_segment_and_overwrites_nothing(tmp_path: Path) -> None:
    segment = tmp_path / "0000000001.journal"
    for content in (b"a", b"b"):
        segment.write_bytes(content)
        put_aside(segment)
    put_aside(segment, b"c")

    slot = Slot.claim(tmp_path)
    assert slot is not None
    assert slot.segments() == []
    assert sorted(path.read_bytes() for path in tmp_path.glob("*.bad")) == [b"a", b"b", b"c"]

    back = (tmp_path / "0000000001.1.bad").rename(tmp_path / "0000000007.1.journal")
    assert [segment.path for segment in slot.segments()] == [back]
    assert slot.next_path() == segment
    slot.release()
