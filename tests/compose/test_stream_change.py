"""Changing a stream by command: nobody's state is concerned without a preview, and every version is kept."""

import asyncio
import getpass
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mtad.base.db import Pool
from mtad.base.errors import InputError
from mtad.cli import shell
from mtad.cli import stream as command

MILD, STRICT = "\n[policy]\nattempts = 5\n", "\n[policy]\nattempts = 3\ndays = 30\n"


@pytest.fixture
async def silent(pool: Pool, stream: Path) -> Path:
    """The stream's file; three people, 40 days without a sign, who ignored two attempts."""
    long_ago = datetime.now(UTC) - timedelta(days=40)
    await pool.execute("insert into domain (name) values ('y.test')")
    await pool.execute(
        "with c as (insert into contact (address, address_key, domain_id)"
        "             select format('s%s@y.test', n), format('s%s@y.test', n), 1 from generate_series(1, 3) n"
        "          returning id),"
        " u as (insert into subscription (stream_id, contact_id, status, basis, source, changed_by)"
        "         select 1, id, 'subscribed', 'consent', 'test', 'test' from c)"
        " insert into engagement (stream_id, contact_id, since, round_from, first_sent, ignored, wake_at)"
        "   select 1, id, $1::timestamptz, $1, $1, 2, $1::timestamptz + interval '90 d' from c",
        long_ago,
    )
    return stream


@pytest.fixture
def config_file(tmp_path: Path, database_url: str) -> Path:
    path = tmp_path / "mtad.toml"
    path.write_text(f'domain = "example.com"\n[database]\nurl = "{database_url}"\n')
    return path


async def typed(config: Path, *arguments: object, answer: str = "") -> Any:
    words = [*map(str, arguments), "-c", str(config)]
    return await asyncio.to_thread(lambda: CliRunner().invoke(command.app, words, input=answer))


def change(path: Path, policy: str) -> None:
    path.write_text(path.read_text().partition("\n[policy]")[0] + policy)


async def wakes(pool: Pool) -> set[int]:
    """In how many days each row is looked at."""
    rows = await pool.fetch("select extract(days from wake_at - since)::int from engagement")
    return {row[0] for row in rows}


async def test_a_change_that_makes_people_inactive_wants_a_yes(pool: Pool, silent: Path, config_file: Path) -> None:
    change(silent, STRICT)

    refused = await typed(config_file, "apply", silent)
    looked = await typed(config_file, "apply", silent, "--dry-run")
    before = await wakes(pool)
    done = await typed(config_file, "apply", silent, "--yes")

    assert isinstance(refused.exception, InputError)
    assert "3 contacts would become Inactive at the next sweep. Look with --dry-run" in str(refused.exception)
    assert "version 2, would be changed" in looked.stdout
    assert "3 contacts would become Inactive at the next sweep." in looked.stdout
    assert done.stdout == "stream sales-de: changed, version 2\n"
    assert (before, await wakes(pool)) == ({90}, {30})


async def test_on_a_terminal_the_preview_is_shown_and_asked_about(
    pool: Pool, silent: Path, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(silent, STRICT)
    monkeypatch.setattr(shell, "asks", lambda: True)

    no = await typed(config_file, "apply", silent, answer="n\n")
    version = await pool.fetchval("select version from stream")
    yes = await typed(config_file, "apply", silent, answer="y\n")

    assert "3 contacts would become Inactive at the next sweep." in no.stdout
    assert no.stdout.endswith("Nothing was changed.\n")
    assert version == 1
    assert yes.stdout.endswith("stream sales-de: changed, version 2\n")


async def test_json_tells_whom_a_change_concerns(silent: Path, config_file: Path) -> None:
    change(silent, STRICT)

    looked = json.loads((await typed(config_file, "apply", silent, "--dry-run", "--json")).stdout)

    assert (looked["version"], looked["did"], looked["applied"]) == (2, "changed", False)
    assert looked["effect"]["inactive"] == looked["effect"]["reachable"] == 3


def forget_after(stream: Path, span: str) -> None:
    stream.write_text(f'forget_after = "{span}"\n{stream.read_text()}')


async def test_whom_a_new_memory_would_erase_is_told_before(silent: Path, config_file: Path, pool: Pool) -> None:
    await pool.execute("update subscription set status = 'unsubscribed', changed = now() - interval '301 d'")
    await pool.execute("update engagement set first_sent = null")
    forget_after(silent, "300d")

    refused = await typed(config_file, "apply", silent)

    assert "3 contacts would be erased at the next sweep, and nothing brings that back." in str(refused.exception)
    assert await pool.fetchval("select version from stream") == 1


async def test_what_concerns_nobody_is_applied_at_once(silent: Path, config_file: Path) -> None:
    change(silent, MILD.replace("5", "9"))

    done = await typed(config_file, "apply", silent)

    assert done.stdout == "stream sales-de: changed, version 2\n"


async def test_versions_are_kept_with_who_and_what(silent: Path, config_file: Path) -> None:
    change(silent, STRICT)
    await typed(config_file, "apply", silent, "--yes")

    told = (await typed(config_file, "history", "sales-de")).stdout
    written = json.loads((await typed(config_file, "history", "sales-de", "--json")).stdout)

    newest, first = told.split("version 1")
    assert f"by {getpass.getuser()}" in newest
    assert [line.split() for line in newest.splitlines()[1:] if "→" in line] == [
        ["policy.attempts", "5", "→", "3"],
        ["policy.days", "90", "→", "30"],
    ]
    assert "by test" in first
    assert [row["version"] for row in written] == [2, 1]


async def test_a_stream_is_shown_as_its_file_would_say_it(
    silent: Path, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "out", Console(width=80))
    shown = (await typed(config_file, "show", "sales-de")).stdout
    rules = dict(line.split(maxsplit=1) for line in shown.splitlines() if line.startswith("policy."))

    assert {key: rules[f"policy.{key}"].strip() for key in ("window", "cool_downs", "points", "settle")} == {
        "window": "3d",
        "cool_downs": "30d, then 90d",
        "points": "open 5, click 10, page 15",
        "settle": "5s",
    }
    assert "Slots(" not in shown
    assert max(map(len, shown.splitlines())) <= 80
