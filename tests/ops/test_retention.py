"""What is older than its term goes, and nothing else."""

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mtad.audience.persons import erase
from mtad.audience.rejects import add_rejects_file
from mtad.base.config import Config, Privacy
from mtad.base.db import Pool
from mtad.base.ids import uuid7
from mtad.ops import retention
from mtad.ops.retention import KINDS, Files, apply
from tests.rows import Rows

NOW = datetime.now(UTC)
README = Path(retention.__file__).with_name("README.md")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(domain="example.com", folder=tmp_path)


async def event(pool: Pool, age: timedelta) -> str:
    at = NOW - age
    made = uuid7(int(at.timestamp() * 1000), os.urandom(10))
    await pool.execute(
        "insert into event (id, kind, at, contact_id, class, data) values ($1, 'click', $2, 1, 'human', $3)",
        made, at, {"agent": "Firefox", "network": "192.0.2.0/24", "method": "GET", "why": ["x"]},
    )  # fmt: skip
    return str(made)


async def test_hits_lose_agent_and_network_after_their_term_and_keep_the_verdict(pool: Pool, config: Config) -> None:
    young, old = await event(pool, timedelta(days=89)), await event(pool, timedelta(days=91))
    for _ in range(2):
        await apply(pool, config)

    data = {str(row[0]): row[1] for row in await pool.fetch("select id, data from event")}
    assert data[old] == {"method": "GET", "why": ["x"]}
    assert set(data[young]) == {"method", "why", "agent", "network"}


async def test_events_and_counts_go_with_the_calendar_month_that_ended_a_term_ago(pool: Pool, config: Config) -> None:
    (part,) = [
        row[0]
        for row in await pool.fetch(
            "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
            " where i.inhparent = 'event'::regclass order by 1 limit 1"
        )
    ]
    await pool.execute(f"alter table {part} rename to event_{NOW - timedelta(days=1000):%Y_%m}")
    await event(pool, timedelta(days=900))
    await pool.execute(
        "insert into hit_count values (1, now() - interval '761 days', 'human', 5), (2, now(), 'human', 1)"
    )

    await apply(pool, config)

    assert await pool.fetchval("select count(*) from event") == 0
    assert [row[0] for row in await pool.fetch("select link_id from hit_count")] == [2]
    await event(pool, timedelta(days=900))  # a journal that is read late still finds its place


@pytest.mark.parametrize(
    ("table", "row", "kept"), [("hit_counted", "select $1", 8), ("event_key", "select 'shop', $1::uuid::text, $1", 31)]
)
async def test_which_hits_were_counted_and_events_told_is_known_while_they_may_come_again(
    pool: Pool, config: Config, table: str, row: str, kept: int
) -> None:
    for days in (kept - 1, kept + 1):
        made = uuid7(int((NOW - timedelta(days=days)).timestamp() * 1000), os.urandom(10))
        await pool.execute(f"insert into {table} {row}", made)

    await apply(pool, config)

    assert await pool.fetchval(f"select count(*) from {table}") == 1


async def test_files_of_rejects_and_segments_put_aside_go_after_their_term(
    pool: Pool, config: Config, tmp_path: Path
) -> None:
    config = Config(domain="example.com", folder=tmp_path, privacy=Privacy(rejects="10d"))
    slot = config.state / "journal" / "0"
    slot.mkdir(parents=True)
    for days in (9, 11):
        for path in (tmp_path / f"{days}.rejects.csv", slot / f"{days}.bad"):
            path.write_text("a@b.test")
            os.utime(path, times=((NOW - timedelta(days=days)).timestamp(),) * 2)
        await pool.execute(
            "insert into rejects_file values ($1, $2, $3)",
            socket.gethostname(), str(tmp_path / f"{days}.rejects.csv"), NOW - timedelta(days=days),
        )  # fmt: skip
    await pool.execute("insert into rejects_file values ('elsewhere', '/x', $1)", NOW - timedelta(days=99))

    await apply(pool, config)

    assert _files(tmp_path) == ["9.bad", "9.rejects.csv"]
    assert await pool.fetchval("select count(*) from rejects_file") == 2


async def test_each_machine_drops_its_own_files_and_the_lines_of_who_was_erased_on_another(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(host: str) -> Config:
        monkeypatch.setattr(socket, "gethostname", lambda: host)
        config = Config(domain="example.com", folder=tmp_path / host)
        key = config.path(config.privacy.suppression_key)
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_text("5e" * 32)
        return config

    here = on("here")
    for name in ("ann", "old"):
        (tmp_path / name).write_text("line,email,reason\n2,Ann@x.test,a\n3,bea@x.test,b\n")
        await add_rejects_file(pool, tmp_path / name)
    await pool.execute("update rejects_file set made = now() - interval '31 days' where path like '%old'")
    (here.state / "journal" / "0").mkdir(parents=True)
    (here.state / "journal" / "0" / "1.bad").write_text("x")
    os.utime(here.state / "journal" / "0" / "1.bad", times=(0, 0))
    there = on("there")
    assert (await erase(pool, there, "ann@x.test", "test")).rejects == []
    assert await Files(pool, there).run() == 0
    files = Files(pool, on("here"))
    assert await files.run() == 3

    assert (tmp_path / "ann").read_text().split() == ["line,email,reason", "3,bea@x.test,b"]
    assert not (tmp_path / "old").exists()
    assert _files(here.state) == []
    assert await files.run() == 0


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.*") if path.is_file())


async def test_a_proof_goes_a_term_after_the_consent_ended_and_not_while_it_holds(pool: Pool, config: Config) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        stream = await rows.stream()
        for number, status in enumerate(("subscribed", "unsubscribed", None), 1):
            contact = await rows.contact(f"p{number}@x.test", subscribed=status)
            await conn.execute(
                "insert into proof (job_id, contact_id, stream_id, form_id, form_version, address, page, consent,"
                " asked, asked_agent, message_id, due, confirmed) values ($1, $2, $3, 1, 1, 'a', '', '', now(), '',"
                " '', now(), now())", number, contact, stream,
            )  # fmt: skip

    await apply(pool, config)
    assert await _ended(pool) == {1: False, 2: True, 3: True}
    await pool.execute("update proof set ended = now() - interval '1094 days' where job_id = 2")
    await pool.execute("update proof set ended = now() - interval '1096 days' where job_id = 3")
    await apply(pool, config)
    assert await _ended(pool) == {1: False, 2: True}
    await pool.execute("update subscription set status = 'subscribed'")
    await apply(pool, config)
    assert await _ended(pool) == {1: False, 2: False}


async def _ended(pool: Pool) -> dict[int, bool]:
    return {row[0]: row[1] for row in await pool.fetch("select job_id, ended is not null from proof order by 1")}


async def test_what_held_an_address_up_is_forgotten_a_term_after_it_was_over(pool: Pool, config: Config) -> None:
    await pool.execute(
        "insert into suppression (key, scope, reason, source, until, released) values"
        " ('lapsed', 'all', 'hard_bounce', '', now() - interval '761 d', null),"
        " ('released', 'all', 'manual', '', 'infinity', now() - interval '761 d'),"
        " ('just lapsed', 'all', 'hard_bounce', '', now() - interval '759 d', null),"
        " ('holds', 'marketing', 'complained', '', 'infinity', null)"
    )

    await apply(pool, config)

    assert [row[0] for row in await pool.fetch("select key from suppression order by id")] == ["just lapsed", "holds"]


# Columns by which a row may be somebody's; and tables where they name lanes, programs and hosts of our own.
PERSONAL = ("contact_id", "job_id", "event_id", "address", "address_key", "key", "path")
IMPERSONAL = {"reach", "tally", "suspension", "standing_order", "reply_count"}


async def test_no_table_that_names_people_is_left_out(pool: Pool) -> None:
    found = await pool.fetch(
        "select distinct table_name from information_schema.columns where table_schema = 'public'"
        " and (column_name = any($1::text[]) or udt_name = 'inet') and table_name !~ '_\\d+$'",
        PERSONAL,
    )

    assert {row[0] for row in found} - IMPERSONAL == {table for kind in KINDS for table in kind.tables} - {"hit_count"}


def test_the_table_of_the_readme_is_that_of_the_command() -> None:
    text = README.read_text(encoding="utf-8")
    privacy = Privacy()

    for kind in KINDS:
        kept = f"`{kind.term}` ({getattr(privacy, kind.term)})" if hasattr(privacy, kind.term) else kind.term
        assert f"| {kind.data} | {kept} | {kind.then} | {kind.sweep} |" in text
