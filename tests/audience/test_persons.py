"""Export and erasure of one person: everything, and of nobody else."""

import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mtad.audience.keyed import SuppressionKey
from mtad.audience.persons import TABLES, erase, erase_again, erase_leftovers, export
from mtad.audience.rejects import add_rejects_file, without_addresses
from mtad.audience.service import Options, import_contacts
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.errors import ConfigError, InputError
from mtad.ops.audit import audit
from tests.rows import Program, Rows

ANN, BEA = "Ann@Smith.test", "bea@other.test"
SECRET = "Elbchaussee 17"

# Tables with a column `contact_id` of which an erasure leaves the number, and why.
NUMBERS = {"gate": "the fence of mail that is still queued", "job": "until the pipeline has ended it",
           "proof": "confirmed: for its own term", "enrolled": "minus the job's number"}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "suppression.key").write_text(secrets.token_hex(32))
    return Config(domain="example.com", folder=tmp_path)


@pytest.fixture
async def people(pool: Pool) -> Program:
    """Ann and Bea, with a row in every table that knows people."""
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await rows.program()
        for address in (ANN, BEA):
            contact = await rows.contact(address, attributes={"street": SECRET if address == ANN else "Ring 1"})
            job = await rows.mail(program, contact, "delivered", reply=f"250 <{address}> ok")
            entry = await rows.entry(program, contact, ended=datetime.now(UTC), why="completed")
            running = await rows.entry(program, contact)
            waiting = await rows.enrol(program, contact, mail=2)
            await rows.queued(program, contact, waiting, mail=2, entry_id=running, reason=f"450 <{address}> later")
            await conn.execute("insert into job_data values ($1, $2)", waiting, {"address": address})
            event = await rows.hit("open", contact, job, program.pixels[0], stream=program.stream)
            await conn.execute("insert into event_key values ('shop', $1, $2)", f"order of {address}", event)
            await rows.answer(program, contact, job, "open", event)
            await rows.engagement(program, contact)
            await conn.execute("insert into engagement_base select * from engagement where contact_id = $1", contact)
            await rows.transition(program, contact, "engaged", "score", f"job {job} of entry {entry}")
            await conn.execute(
                "insert into pending (event_id, job_id, kind, link_id, at, method, agent)"
                " values ($1, $2, 'click', $3, now(), 'GET', 'x')", event, job, program.links[0][0],
            )  # fmt: skip
            await conn.execute(
                "insert into visit (event_id, job_id, clicked, at, url, agent) values ($1, $2, now(), now(), $3, '')",
                event, job, f"https://shop.test/{address}",
            )  # fmt: skip
            await conn.execute(
                "insert into suppression (key, scope, reason, source) values ($1, 'marketing', 'manual', 'test')",
                address.lower(),
            )
            await conn.execute(
                "insert into proof (job_id, contact_id, stream_id, form_id, form_version, address, page, consent,"
                " asked, asked_agent, message_id, due) values ($1, $2, $3, 1, 1, $4, '', '', now(), '', $4, now())",
                waiting, contact, program.stream, address,
            )  # fmt: skip
    return program


async def everything(pool: Pool) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    tables = await pool.fetch("select tablename from pg_tables where schemaname = 'public' order by 1")
    return {t: [row[0] for row in await pool.fetch(f'select t::text from "{t}" t')] for (t,) in tables}


async def test_an_export_has_a_row_of_every_table_that_knows_people_and_nobody_elses(
    pool: Pool, people: Program
) -> None:
    found = await export(pool, "ann@smith.test")

    assert set(found) >= set(TABLES) | {"suppression"}
    assert SECRET in str(found)
    assert "bea@" not in str(found)
    assert "Ring 1" not in str(found)
    assert found["names"]["program_id"] == {str(people.id): "nudge"}
    with pytest.raises(InputError, match="nothing is known"):
        await export(pool, "carl@smith.test")

    await pool.execute("update contact set merged_into = 2 where id = 1")
    for one in (ANN, BEA):
        assert len((await export(pool, one))["contact"]) == 2, "whoever was merged is one person by either address"


async def test_no_table_that_knows_people_is_forgotten(pool: Pool) -> None:
    found = await pool.fetch(
        "select distinct table_name from information_schema.columns where table_schema = 'public'"
        " and column_name in ('contact_id', 'address', 'address_key') and table_name !~ '_\\d+$'"
    )

    # The address in `reach` is one of our own trackers'.
    assert {row[0] for row in found} - set(TABLES) - {"enrolled", "reach"} == set()


async def test_an_erasure_leaves_no_row_with_the_person_and_touches_nobody_else(
    pool: Pool, people: Program, config: Config
) -> None:
    before = await everything(pool)
    done = await erase(pool, config, ANN, "operator:test")
    after = await everything(pool)

    text = str(after).lower()
    assert (done.contacts, "ann@" in text, SECRET.lower() in text) == (1, False, False)
    ann = await pool.fetchval("select id from contact where erased")
    for table in set(TABLES) - set(NUMBERS) - {"contact", "job_data", "pending", "visit"}:
        assert not await pool.fetchval(f"select count(*) from {table} where contact_id = $1", ann), table
    assert await pool.fetchval("select array_agg(contact_id = -job_id order by job_id) from enrolled") == [
        True, False, False, False,
    ]  # fmt: skip
    assert await pool.fetchval("select count(*) from job_data") == 1
    for table in (
        "identity",
        "event",
        "answer",
        "subscription",
        "engagement",
        "transition",
        "pending",
        "visit",
        "event_key",
    ):
        assert len(after[table]) == len(before[table]) - 1, table
        assert set(after[table]) < set(before[table]), table
    assert [row async for row in _suppressions(pool)] == [(done.hash, "all"), ("bea@other.test", "marketing")]


async def _suppressions(pool: Pool) -> Any:
    for row in await pool.fetch("select key, scope::text from suppression order by key"):
        yield row[0], row[1]


async def test_the_books_still_add_up_and_queued_mail_is_due_to_be_ended(
    pool: Pool, people: Program, config: Config
) -> None:
    await erase(pool, config, ANN, "operator:test")

    async with pool.acquire() as conn:
        books = await audit(conn, people.name)
    assert (books.adds_up, books.enrolled, books.delivered, books.entered) == (True, 4, 2, 4)
    assert books.ended == {"completed": 2, "erased": 1}
    ann = await pool.fetchval("select id from contact where erased")
    assert await pool.fetchval("select due <= now() and reason is null from job where contact_id = $1", ann)
    assert await pool.fetchval("select version from gate where contact_id = $1", ann) > 1


async def test_a_confirmed_proof_survives_for_its_own_term_and_an_unconfirmed_does_not(
    pool: Pool, people: Program, config: Config
) -> None:
    await pool.execute("update proof set confirmed = now() where address = $1", ANN)
    await erase(pool, config, ANN, "operator:test")
    await erase(pool, config, BEA, "operator:test")

    assert [tuple(row) for row in await pool.fetch("select address, ended is not null from proof")] == [(ANN, True)]
    found = await export(pool, "ann@smith.test")
    assert [proof["address"] for proof in found["proof"]] == [ANN], "it is all that an export finds"
    assert set(found) == {"address", "made", "proof", "names"}
    with pytest.raises(InputError, match="nothing is known"):
        await export(pool, "bea@other.test")


async def test_no_import_brings_an_erased_address_back(
    pool: Pool, people: Program, config: Config, tmp_path: Path
) -> None:
    await erase(pool, config, ANN, "operator:test")
    await erase(pool, config, "never@seen.test", "operator:test")
    file = tmp_path / "people.csv"
    file.write_text("email\nANN@smith.test\nnever@seen.test\nnew@seen.test\nbea@other.test\n")

    async def load(config: Config) -> Any:
        return await import_contacts(
            pool, file, Options(), now=datetime.now(UTC), progress=lambda *_: None, config=config
        )

    summary = await load(config)
    rejects = (tmp_path / "people.rejects.csv").read_text()
    assert (summary.made, summary.reasons) == (1, {"erased": 2, "suppressed:manual": 1})
    assert rejects.splitlines()[1:] == [
        "2,ANN@smith.test,erased",
        "3,never@seen.test,erased",
        "5,bea@other.test,suppressed:manual",
    ]
    assert await pool.fetchval("select path from rejects_file") == str(tmp_path / "people.rejects.csv")

    (tmp_path / "keys" / "suppression.key").write_text("00" * 32)
    with pytest.raises(ConfigError, match="is not the key by which 2 erased"):
        await load(config)
    (tmp_path / "keys" / "suppression.key").unlink()
    with pytest.raises(ConfigError, match="put it back from its backup"):
        await load(config)


async def test_whom_a_restored_backup_brings_back_is_erased_again(
    pool: Pool, people: Program, config: Config, tmp_path: Path
) -> None:
    key = SuppressionKey.parse((tmp_path / "keys" / "suppression.key").read_text(), "key")
    config.state.mkdir()
    (config.state / "erased.hashes").write_text(f"{key.hash('ann@smith.test')} 2026-01-01\n{key.hash('gone@x.test')}\n")

    assert await erase_again(pool, config, None, "operator:test") == 1
    assert "ann@" not in str(await everything(pool)).lower()
    assert len([row async for row in _suppressions(pool)]) == 3
    (tmp_path / "other").write_text(SuppressionKey(bytes(32)).hash("ann@smith.test"))
    with pytest.raises(InputError, match="made with another key"):
        await erase_again(pool, config, tmp_path / "other", "operator:test")


async def test_what_was_under_way_when_somebody_was_erased_is_erased_by_the_sweep(
    pool: Pool, people: Program, config: Config
) -> None:
    await erase(pool, config, ANN, "operator:test")
    ann = await pool.fetchval("select id from contact where erased")
    async with pool.acquire() as conn:
        rows = Rows(conn)
        rows.streams = {"sales": people.stream}
        job = await pool.fetchval("delete from job where contact_id = $1 returning id", ann)
        await rows.settled(people, ann, job, "skipped", "erased", mail=2)
        await rows.hit("open", ann, job, None, at=datetime.now(UTC) - timedelta(seconds=5))

    assert await erase_leftovers(pool) == 1
    assert await erase_leftovers(pool) == 0
    for table in ("ledger", "event", "entry", "enrolled"):
        assert not await pool.fetchval(f"select count(*) from {table} where contact_id = $1", ann), table
    async with pool.acquire() as conn:
        assert (await audit(conn, people.name)).adds_up


async def test_lines_of_the_erased_leave_files_of_rejects(
    pool: Pool, people: Program, config: Config, tmp_path: Path
) -> None:
    file = tmp_path / "people.csv"
    file.write_text("email,a\nAnn@smith.test,1,2\nbea@other.test,1,2\n")
    await import_contacts(pool, file, Options(), now=datetime.now(UTC), progress=lambda *_: None)
    rejects = tmp_path / "people.rejects.csv"
    assert rejects.read_text().count("\n") == 3

    done = await erase(pool, config, ANN, "operator:test")

    assert done.rejects == [str(rejects)]
    assert rejects.read_text().splitlines()[1:] == [line for line in rejects.read_text().splitlines() if "bea@" in line]
    assert not without_addresses(rejects, "ann@smith.test".__eq__)


async def test_a_file_that_cannot_be_read_or_leads_elsewhere_is_left_and_keeps_no_line_in_another(
    pool: Pool, config: Config, tmp_path: Path
) -> None:
    names = ("a-broken", "b-long", "c-link", "d-pipe", "whole")
    broken, long, link, pipe, whole = (tmp_path / f"{name}.rejects.csv" for name in names)
    elsewhere = tmp_path / "elsewhere"
    broken.write_bytes(b"2,ann@smith.test,\xff\n")
    long.write_text(f"2,{'x' * 200_000},no\n")  # longer than the module of CSV takes
    os.mkfifo(pipe)
    for path in (elsewhere, whole):
        path.write_text("2,ann@smith.test,no\n3,bea@other.test,no\n")
        path.chmod(0o640)
    link.symlink_to(elsewhere)
    (tmp_path / f".{whole.name}.new").symlink_to(elsewhere)
    for path in (broken, long, link, pipe, whole):
        await add_rejects_file(pool, path)

    done = await erase(pool, config, ANN, "operator:test")

    assert done.rejects == [str(whole)]
    assert whole.read_text().split() == ["3,bea@other.test,no"]
    assert whole.stat().st_mode & 0o777 == 0o640
    assert (broken.stat().st_size, link.is_symlink(), elsewhere.read_text().count("ann")) == (19, True, 1)


async def test_an_export_finds_the_proof_of_an_erased_person_however_the_address_was_typed(
    pool: Pool, people: Program, config: Config
) -> None:
    await pool.execute("update proof set confirmed = now()")
    await erase(pool, config, ANN, "operator:test")

    for typed, asked in (
        ("ANN@Smith.Test.", "ann@smith.test"),
        ("J\u00d6RG@b\u00fccher.test", "j\u00f6rg@xn--bcher-kva.test"),
    ):
        await pool.execute("update proof set address = $1 where contact_id = 1", typed)
        assert [proof["address"] for proof in (await export(pool, asked))["proof"]] == [typed]


def test_hashes_differ_by_address_and_key_and_show_neither() -> None:
    one, other = SuppressionKey(bytes(32)), SuppressionKey(b"\1" * 32)

    assert len({one.hash("a@x.test"), one.hash("b@x.test"), other.hash("a@x.test")}) == 3
    assert one.mark != other.mark
    assert "a@x" not in one.hash("a@x.test")
    assert "\\x01" not in repr(other)
