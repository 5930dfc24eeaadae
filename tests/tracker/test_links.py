"""Links lead where the message says, with or without a database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from asyncpg import UndefinedTableError
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.clock import SystemClock
from mtad.base.db import Pool
from tests.tracker.made import World
from tracker import store
from tracker.links import Link, Links, destination, read_snapshots, write_snapshot

A, B, C = (Link(f"https://{name}.test/", tracked=True, message_id=1) for name in "abc")
values = st.lists(
    st.text() | st.sampled_from(["//evil.test", "/\\evil.test", "\r\nSet-Cookie: a", "@evil.test", "{1}"])
)


class Rows:
    """A database of links; away while `away`. Counts the queries."""

    def __init__(self, rows: dict[int, Link]) -> None:
        self.rows = rows
        self.away = False
        self.why: Exception = OSError("away")
        self.queries = 0

    async def __call__(self, after: int, missing: list[int], most: int) -> list[tuple[int, Link]]:
        self.queries += 1
        if self.away:
            raise self.why
        above = sorted((i, link) for i, link in self.rows.items() if i > after)[:most]
        return sorted([*((i, self.rows[i]) for i in missing if i in self.rows and i <= after), *above])


@asynccontextmanager
async def running(links: Links) -> AsyncIterator[Links]:
    task = asyncio.create_task(links.run())
    try:
        yield links
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def made(rows: Rows, folder: Path, name: str = "0") -> Links:
    return Links(rows, folder, name, SystemClock(), pause=0.0, period=60.0)


@given(st.text(), values)
def test_without_a_place_the_url_stays_byte_for_byte(url: str, given_values: list[str]) -> None:
    assert destination(url, ()) == url
    if "{" not in url:
        assert destination(url, tuple(given_values)) == url


@given(values)
def test_values_never_change_scheme_or_host_nor_break_the_line(given_values: list[str]) -> None:
    url = destination("https://{0}.a.test/{0}/x?{1}#{2}", tuple(given_values))

    assert urlsplit(url).netloc == "{0}.a.test"
    assert url.startswith("https://{0}.a.test/")
    assert not set(url) & set("\r\n\t\\ ")


def test_values_stand_percent_encoded_in_their_places() -> None:
    assert destination("https://a.test/{1}?q={0}", ("ü/&", "b c")) == "https://a.test/b%20c?q=%C3%BC%2F%26"


async def test_a_new_link_is_found_when_it_is_missed(tmp_path: Path) -> None:
    rows = Rows({1: A})
    async with running(made(rows, tmp_path)) as links:
        assert await links.find(1)
        rows.rows[2] = B

        assert links.get(2) is None
        assert await links.find(2)
        assert links.get(2) == B


async def test_an_id_that_was_committed_late_is_found(tmp_path: Path) -> None:
    rows = Rows({5000: C})
    async with running(made(rows, tmp_path)) as links:
        assert await links.find(5000)
        rows.rows[7] = A

        assert await links.find(7)
        assert links.get(7) == A


async def test_those_who_miss_together_share_one_query(tmp_path: Path) -> None:
    rows = Rows({1: A})
    async with running(made(rows, tmp_path)) as links:
        await links.find(1)
        before = rows.queries

        assert all(await asyncio.gather(*(links.find(n) for n in range(10, 60))))
        assert rows.queries == before + 1


@pytest.mark.parametrize("why", [OSError("away"), UndefinedTableError("no schema yet")])
async def test_a_database_without_an_answer_is_asked_again(tmp_path: Path, why: Exception) -> None:
    rows = Rows({1: A})
    rows.away, rows.why = True, why
    async with running(made(rows, tmp_path)) as links:
        assert not await links.find(1)
        assert not links.loaded
        rows.away = False
        assert await links.find(1)
        assert links.loaded


async def test_links_survive_a_restart_without_a_database(tmp_path: Path) -> None:
    rows = Rows({1: A, 2: B})
    async with running(made(rows, tmp_path)) as links:
        await links.find(1)
        await links.find(1)  # the snapshot is written before the next query
    rows.away = True

    async with running(made(rows, tmp_path, "1")) as links:
        await links.find(9)

        assert (links.get(1), links.get(2)) == (A, B)
        assert links.loaded


def test_the_union_of_snapshots_is_read_and_a_broken_one_passed_over(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "0.links", {1: A})
    write_snapshot(tmp_path / "1.links", {1: A, 2: B})
    (tmp_path / "2.links").write_bytes(b"\xff\x00broken")

    assert read_snapshots(tmp_path) == {1: A, 2: B}


async def test_links_come_from_the_database_in_pages(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.links.PAGE", 2)
    world = await World(pool).seed()
    links = Links(lambda after, missing, most: store.links(pool, after, missing, most), tmp_path, "0", SystemClock())

    async with running(links):
        assert await links.find(world.links[2])

    assert [link.url for n in world.links if (link := links.get(n))] == [
        "https://a.test/", "https://b.test/?x=1&y=%20", "https://c.test/{0}",
    ]  # fmt: skip
