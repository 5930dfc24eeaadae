"""Lists of those who get no mail."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.audience import store
from mtad.audience.service import import_suppressions
from mtad.audience.suppressions import Listed, key_of, suppression
from mtad.base.db import Pool
from mtad.base.errors import InputError
from tests.audience.conftest import CONSENT, Importer


async def suppressed(pool: Pool) -> list[tuple[str, str, str, str]]:
    return [(row.key, row.scope, row.reason, row.source) for row in await store.open_suppressions(pool)]


@given(st.from_regex(r"[a-zA-Z0-9]{1,9}", fullmatch=True), st.sampled_from(["X.test", "BÜCHER.test", "a.b.test"]))
def test_suppression_meets_its_contact_however_it_is_written(local: str, domain: str) -> None:
    assert key_of(f" {local.upper()}@{domain.lower()}") == key_of(f"{local.lower()}@{domain.upper()} ")
    assert key_of(f"@{domain}") == key_of(domain) == "@" + key_of(f"{local}@{domain}").partition("@")[2]


def test_complaint_is_about_advertising_and_all_else_about_all_mail() -> None:
    assert suppression("a@x.test", "Complained", "f") == Listed("a@x.test", "marketing", "complained", "f")
    assert suppression("a@x.test", "hard bounce", "f") == Listed("a@x.test", "all", "hard_bounce", "f")
    assert suppression("@x.test", "complained", "f").scope == "all"
    assert suppression("a@x.test", "", "f") == Listed("a@x.test", "all", "manual", "f")


def test_reason_of_another_system_is_kept_and_loses_nobody() -> None:
    assert suppression("a@x.test", "Spam trap", "f") == Listed("a@x.test", "all", "manual", "f: Spam trap")


async def test_list_without_a_header_suppresses_addresses_and_domains(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("A@x.test\n@Gone.test\n\nolder.test\nnonsense\na@X.test\n")

    done = await import_suppressions(pool, path)

    assert await suppressed(pool) == [
        ("@gone.test", "all", "manual", "import:out.txt"),
        ("@older.test", "all", "manual", "import:out.txt"),
        ("a@x.test", "all", "manual", "import:out.txt"),
    ]
    assert (done.rows, done.suppressed, done.rejected) == (5, 3, 1)
    assert (tmp_path / "out.txt.rejects.csv").read_text().splitlines()[1:] == [
        "5,nonsense,'nonsense' is neither an address nor a domain"
    ]


async def test_list_with_columns_takes_reasons(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("since;Email;Reason\n2026;a@x.test;complained\n2026;b@x.test;\n2026;c@x.test\n")

    done = await import_suppressions(pool, path)

    assert [row[:3] for row in await suppressed(pool)] == [
        ("a@x.test", "marketing", "complained"), ("b@x.test", "all", "manual"),
    ]  # fmt: skip
    assert (done.suppressed, done.rejected, done.rejects) == (2, 1, str(tmp_path / "out.rejects.csv"))


async def test_list_that_cannot_be_read_changes_nothing(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("name,address\nA,a@x.test\n")
    with pytest.raises(InputError, match=r"out\.csv: no column 'email' in the header: 'name', 'address'$"):
        await import_suppressions(pool, path)
    path.write_text('email\na@x.test\n"b@x.test\n')
    with pytest.raises(InputError, match=r"out\.csv: line 3: a quote"):
        await import_suppressions(pool, path)

    assert await suppressed(pool) == []


async def test_imported_suppression_raises_the_gate_of_its_contact(load: Importer, tmp_path: Path) -> None:
    await load("email\na@x.test\nb@x.test\n", **CONSENT)
    path = tmp_path / "out.csv"
    path.write_text("email\nA@X.test\nstranger@x.test\n")

    await import_suppressions(load.pool, path)

    assert (await load.contact("a@x.test"))["gate"] == 2
    assert (await load.contact("b@x.test"))["gate"] == 1
    assert [row[0] for row in await suppressed(load.pool)] == ["a@x.test", "stranger@x.test"]
