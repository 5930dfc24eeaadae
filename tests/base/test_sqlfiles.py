"""Named queries and migrations as files."""

from pathlib import Path

import pytest

from mtad.base import migrate, sqlfiles
from mtad.base.errors import Problem


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("queries", "migrations"):
        (tmp_path / name).mkdir()
    for module in (sqlfiles, migrate):
        monkeypatch.setattr(module, "sql_root", lambda: tmp_path)
    sqlfiles.queries.cache_clear()
    return tmp_path


def test_a_query_is_all_from_its_name_to_the_next(folder: Path) -> None:
    (folder / "queries" / "some.sql").write_text(
        "-- What these are for.\n\n-- name: one\n-- Says one.\nselect 1;\n\n-- name: two\nselect\n  2\n;\n"
    )

    assert sqlfiles.queries("some") == {"one": "-- Says one.\nselect 1", "two": "select\n  2"}


def test_a_name_given_twice_is_refused(folder: Path) -> None:
    (folder / "queries" / "some.sql").write_text("-- name: one\nselect 1;\n-- name: one\nselect 2;\n")

    with pytest.raises(ValueError, match=r"some\.sql names a query twice"):
        sqlfiles.queries("some")


def test_migrations_are_found_in_order_and_other_files_are_not(folder: Path) -> None:
    for name in ("0002_second.sql", "0001_first.sql", "notes.txt"):
        (folder / "migrations" / name).touch()

    assert {number: path.name for number, path in migrate.migration_files().items()} == {
        1: "0001_first.sql", 2: "0002_second.sql",
    }  # fmt: skip


@pytest.mark.parametrize("names", [["0002_a.sql"], ["0001_a.sql", "0003_b.sql"]])
def test_a_gap_in_the_numbers_is_refused(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / "migrations" / name).touch()

    with pytest.raises(Problem, match="numbers are not 1 to"):
        migrate.migration_files()
