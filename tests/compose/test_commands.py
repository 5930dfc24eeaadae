"""The commands as they are typed, against a real database and a real receiving server."""

import asyncio
import email
import email.policy
import json
import re
from email.message import EmailMessage
from pathlib import Path

import dkim
import pytest
from click.testing import Result
from typer.testing import CliRunner

from mtad.base.db import Pool
from mtad.base.errors import ConfigError, InputError, Problem
from mtad.cli.main import app as root
from mtad.cli.program import app as program_app
from mtad.cli.stream import app as stream_app
from mtad.dkim.keys import dns_record, new_key, read_key
from mtad.lab.sink import Sink
from tests.compose.conftest import Writer
from tracker.tokens import Keys, Purpose, read_contact_token, read_link_token


@pytest.fixture
def config_file(tmp_path: Path, database_url: str) -> Path:
    """A configuration with keys on the test's database; mail for everybody goes to port PORT."""
    (tmp_path / "dkim.pem").write_bytes(new_key())
    (tmp_path / "tracking.keys").write_text("1:" + "ab" * 32)
    path = tmp_path / "mtad.toml"
    path.write_text(
        f"""domain = "example.com"
[database]
url = "{database_url}"
[tracker]
keys = "tracking.keys"
[[dkim]]
domain = "example.com"
selector = "s1"
key = "dkim.pem"
[[route]]
domain = "*"
host = "127.0.0.1"
port = 1
"""
    )
    return path


SOURCES = """[[source]]
name = "main"
hostname = "mail1.example.com"
[[source]]
name = "new"
hostname = "mail2.example.com"
[[route]]"""


async def typed(app: object, *arguments: str | Path) -> Result:
    """Run a command in a thread, for it brings its own loop."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(map(str, arguments)))  # type: ignore[arg-type]


async def applied(files: Writer, config_file: Path, **replaced: str) -> None:
    done = await typed(program_app, "apply", files(**replaced), "-c", config_file)
    assert done.exit_code == 0, done.output


def changed(config_file: Path, old: str, new: str) -> None:
    config_file.write_text(config_file.read_text().replace(old, new))


async def test_streams_are_applied_listed_and_shown(stream: Path, config_file: Path) -> None:
    again = await typed(stream_app, "apply", stream, "-c", config_file)
    listed = await typed(stream_app, "list", "--json", "-c", config_file)
    shown = await typed(stream_app, "show", "sales-de", "-c", config_file)
    unknown = await typed(stream_app, "show", "sales-fr", "-c", config_file)

    assert again.stdout == "stream sales-de: unchanged, version 1\n"
    assert [row["name"] for row in json.loads(listed.stdout)] == ["sales-de"]
    assert "policy.threshold" in shown.stdout
    assert isinstance(unknown.exception, InputError)


async def test_programs_are_applied_and_listed(stream: Path, files: Writer, config_file: Path) -> None:
    created = await typed(program_app, "apply", files(), "-c", config_file, "--json")
    listed = await typed(program_app, "list", "-c", config_file)

    assert json.loads(created.stdout) == {"name": "nudge", "version": 1, "did": "created", "people": 0, "mails": 0}
    assert re.search(r"nudge +series +sales-de +draft", listed.stdout)


async def test_a_cancel_says_whom_it_concerns_and_wants_a_yes(
    pool: Pool, stream: Path, files: Writer, config_file: Path
) -> None:
    await applied(files, config_file)
    await pool.execute("insert into domain (name) values ('y.test')")
    await pool.execute("insert into contact (address, address_key, domain_id) values ('a', 'a', 1)")
    await pool.execute(
        "insert into entry (program_id, version, contact_id, stream_id, node) values (1, 1, 1, 1, 'nudge-1')"
    )

    asked = await typed(root, "program", "cancel", "nudge", "-c", config_file)
    done = await typed(root, "program", "cancel", "nudge", "-c", config_file, "--yes")
    again = await typed(root, "program", "cancel", "nudge", "-c", config_file, "--yes")

    assert isinstance(asked.exception, InputError)
    assert str(asked.exception).startswith(
        "to cancel program nudge for good, with 0 mails that wait and 1 person in it"
    )
    assert done.stdout == "nudge: cancelled; 0 mails will end as skipped, 1 person has left it.\n"
    assert str(again.exception) == "program nudge is cancelled already"


async def test_a_preview_is_three_files_a_step_whose_links_count_for_nobody(
    stream: Path, files: Writer, config_file: Path, tmp_path: Path
) -> None:
    await applied(files, config_file)

    done = await typed(program_app, "preview", "nudge", "-c", config_file, "--dir", tmp_path / "out")

    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"nudge-nudge-{step}.{kind}" for step in (1, 2) for kind in ("eml", "html", "txt")
    ]
    html = (tmp_path / "out" / "nudge-nudge-1.html").read_text()
    assert "Hello [first_name]" in html
    keys = Keys.parse("1:" + "ab" * 32)
    click = re.search(r"/c/([^/\"]{36})/", html)
    leave = re.search(r"/u/([^/\"]{36})", html)
    assert click
    assert leave
    link, contact = read_link_token(keys, Purpose.CLICK, click[1], ("[sku]",)), read_contact_token(keys, leave[1])
    assert link
    assert link.job_id == 0
    assert contact
    assert contact.contact_id == 0
    wire = (tmp_path / "out" / "nudge-nudge-1.eml").read_bytes()
    assert dkim.verify(wire, dnsfunc=lambda *_, **__: dns_record(read_key(tmp_path / "dkim.pem")).encode())


async def test_a_test_sends_every_mail_for_real_with_a_contacts_values(
    pool: Pool, stream: Path, files: Writer, config_file: Path
) -> None:
    await applied(files, config_file)
    await pool.execute("insert into domain (name) values ('example.net')")
    await pool.execute(
        "insert into contact (address, address_key, domain_id, attributes)"
        " select 'Ann@example.net', 'ann@example.net', id, $1 from domain",
        {"first_name": "Ann", "sku": "7"},
    )
    async with Sink() as sink:
        changed(config_file, "port = 1\n", f"port = {sink.port}\n")
        changed(config_file, "[[route]]", SOURCES)

        done = await typed(
            program_app, "test", "nudge", "-c", config_file, "--to", "me@example.org", "--as", "ann@Example.net"
        )
        other = await typed(
            program_app, "test", "nudge", "-c", config_file, "--to", "me@example.org", "--source", "new", "--json"
        )

    assert done.exit_code == 0, done.output
    assert [line.split(" by ")[0] for line in done.stdout.splitlines()] == ["nudge-1: accepted", "nudge-2: accepted"]
    assert [copy.recipient for copy in sink.messages] == ["me@example.org"] * 4
    assert [copy.helo for copy in sink.messages] == ["mail1.example.com"] * 2 + ["mail2.example.com"] * 2
    assert {row["source"] for row in json.loads(other.stdout)} == {"new"}
    message = email.message_from_bytes(sink.messages[0].message, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert (message["To"], message["Subject"]) == ("me@example.org", "Hi Ann")
    assert len({email.message_from_bytes(copy.message)["Message-ID"] for copy in sink.messages}) == 4
    assert await pool.fetchval("select count(*) from job") == 0


async def test_a_test_that_is_refused_says_so_and_fails(stream: Path, files: Writer, config_file: Path) -> None:
    await applied(files, config_file)
    async with Sink() as sink:
        changed(config_file, "port = 1\n", f"port = {sink.port}\n")

        done = await typed(program_app, "test", "nudge", "-c", config_file, "--to", "unknown-me@example.org")

    assert done.exit_code == 1
    assert "no such user here" in done.stdout
    assert "NOT ACCEPTED" in done.stdout


async def test_a_bad_argument_is_one_clear_line(stream: Path, files: Writer, config_file: Path) -> None:
    cases = [
        (("preview", "nothing"), "program 'nothing' is unknown"),
        (("preview", "nudge", "--as", "nobody@example.net"), "there is no contact 'nobody@example.net'"),
        (("preview", "nudge", "--as", "nobody"), "no @ in it"),
        (("test", "nudge", "--to", "a@b@"), "--to: 'a@b@'"),
        (("test", "nudge", "--to", "a@b.test", "--source", "x"), "--source: 'x' is none of default"),
    ]
    await applied(files, config_file)

    for arguments, clue in cases:
        done = await typed(program_app, *arguments, "-c", config_file)
        assert isinstance(done.exception, Problem)
        assert clue in str(done.exception)
        assert "\n" not in str(done.exception)


@pytest.mark.parametrize("missing", ["dkim.pem", "tracking.keys"])
async def test_a_missing_key_file_is_one_clear_line(
    stream: Path, files: Writer, config_file: Path, tmp_path: Path, missing: str
) -> None:
    await applied(files, config_file)
    (tmp_path / missing).unlink()

    done = await typed(program_app, "preview", "nudge", "-c", config_file, "--dir", tmp_path / "out")

    assert isinstance(done.exception, ConfigError)
    assert re.fullmatch(rf"[^\n]*{missing}[^\n]*", str(done.exception))
    assert not (tmp_path / "out").exists()


async def test_a_mail_that_no_key_fits_is_not_sent(stream: Path, files: Writer, config_file: Path) -> None:
    await applied(files, config_file)
    changed(config_file, '[[dkim]]\ndomain = "example.com"', '[[dkim]]\ndomain = "b.test"')

    done = await typed(program_app, "test", "nudge", "-c", config_file, "--to", "me@example.org")

    assert isinstance(done.exception, Problem)
    assert "not signed, so not sent" in str(done.exception)
