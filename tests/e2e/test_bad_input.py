"""What cannot be done is one line on stderr that names thing and value, an exit code, and nothing half done.

The daemon is a process of `python -m mtad`, as an operator would start it; a process for each of the other
commands cost half a second more, and test_readme.py starts those that a reader would.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import with_database
from tests.e2e.command import run_here
from tests.e2e.place import DOMAIN, STREAM

DATA, UNAVAILABLE, CONFIG, USAGE = 65, 69, 78, 2

PROGRAM = """
name = "series"
kind = "series"
stream = "courses"
leave_on = ["click"]
[[step]]
message = "hello"
"""
SECOND_STEP = """
[[step]]
message = "more"
"""
FOOTER = '<p>{{ imprint }} <a href="{{ unsubscribe_url }}">Leave</a></p>'
PEOPLE = "email,first_name\nann@reader.test,Ann\n"


class Place:
    """A folder of `mtad init` with a database of its own, a stream, a contact and a program."""

    def __init__(self, folder: Path, database: str, server: str) -> None:
        self.folder = folder
        self.server = server
        self.mtad("init", "--domain", DOMAIN)
        self.settings = (folder / "mtad.toml").read_text(encoding="utf-8")
        self.settings = self.settings.replace('# url = "embedded"', f'url = "{database}"')
        self.settings = self.settings.replace('# listen = "127.0.0.1:8025"', 'listen = "127.0.0.1:0"')
        self.write("mtad.toml", self.settings)
        self.write("stream.toml", STREAM)
        self.write("series.toml", PROGRAM)
        self.write("hello/subject.txt", "Hello")
        self.write("hello/message.html", FOOTER)
        self.write("people.csv", PEOPLE)
        self.must("migrate")
        self.must("stream", "apply", "stream.toml")
        self.must("contacts", "import", "people.csv", "--stream", "courses", "--basis", "consent", "--source", "fair")
        self.must("program", "apply", "series.toml")

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def mtad(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        if arguments[0] != "run":
            return run_here(self.folder, *arguments)
        return subprocess.run(
            [sys.executable, "-m", "mtad", *arguments],
            cwd=self.folder, env={**os.environ, "COLUMNS": "200"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def must(self, *arguments: str) -> str:
        done = self.mtad(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def files(self) -> set[str]:
        """All there is, but for the files that the cases themselves bring."""
        return {str(path) for path in self.folder.rglob("*")}

    def configured(self, old: str, new: str) -> None:
        assert old in self.settings
        self.write("bad.toml", self.settings.replace(old, new, 1))

    def message(self, html: str | bytes, subject: str = "Hello") -> None:
        self.write("bad/subject.txt", subject)
        self.write("bad/message.html", html)
        self.write("bad.toml", PROGRAM.replace("hello", "bad").replace("series", "other", 1))


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, postgres_url: str, template_database: str
) -> Iterator[Place]:  # the server of the test run, a database of this module
    name = f"mtad_test_bad_input_{os.getpid()}"
    asyncio.run(_executed(postgres_url, f"create database {name} template {template_database} strategy file_copy"))
    try:
        yield Place(tmp_path_factory.mktemp("bad input"), with_database(postgres_url, name), postgres_url)
    finally:
        asyncio.run(_executed(postgres_url, f"drop database {name} with (force)"))


async def _executed(url: str, statement: str) -> None:
    conn = await asyncpg.connect(url)
    await conn.execute(statement)
    await conn.close()


Prepare = Callable[[Place], None]


def given(name: str, content: str | bytes) -> Prepare:
    return lambda place: place.write(name, content)


def configured(old: str, new: str) -> Prepare:
    return lambda place: place.configured(old, new)


def message(html: str | bytes, subject: str = "Hello") -> Prepare:
    return lambda place: place.message(html, subject)


def database(url: str) -> Prepare:
    def prepare(place: Place) -> None:
        current = next(line for line in place.settings.splitlines() if line.startswith("url = "))
        place.configured(current, f'url = "{url.replace("SERVER", place.server.rpartition("?")[2])}"')

    return prepare


def nothing(_: Place) -> None:
    pass


BAD = ("-c", "bad.toml")
IMPORT = ("contacts", "import", "bad.csv")
APPLY = ("program", "apply", "bad.toml")
STREAM_APPLY = ("stream", "apply", "bad.toml")

CASES: list[tuple[str, Prepare, tuple[str, ...], int, tuple[str, ...]]] = [
    # ── The command line ─────────────────────────────────────────────────────
    ("no command", nothing, ("strat",), USAGE, ("'strat'", "mtad")),
    ("no number", nothing, ("run", "--workers", "many"), USAGE, ("--workers", "integer")),
    ("no role", nothing, ("run", "--roles", "mta,cook"), DATA, ("--roles", "'cook'")),
    # ── Files of contacts and suppressions ───────────────────────────────────
    ("csv: no file", nothing, ("contacts", "import", "gone.csv"), DATA, ("gone.csv", "no such file")),
    ("csv: open quote", given("bad.csv", 'email,x\n"a@b.test,1\n'), IMPORT, DATA, ("bad.csv", "line 2", "quote")),
    ("csv: latin-1", given("bad.csv", b"email\nm\xfcller@b.test\n"), IMPORT, DATA, ("bad.csv", "byte 7", "--encoding")),
    ("csv: no stream", nothing, ("contacts", "import", "people.csv", "--stream", "nope", "--basis", "consent",
                                 "--source", "x"), DATA, ("--stream", "nope")),
    ("csv: no right", nothing, ("contacts", "import", "people.csv", "--stream", "courses"), DATA, ("--basis",)),
    ("csv: no basis", nothing, ("contacts", "import", "people.csv", "--stream", "courses", "--basis", "luck",
                                "--source", "x"), DATA, ("--basis", "luck")),
    ("csv: no such attribute", nothing, ("contacts", "import", "people.csv", "--type", "nmae=text"), DATA, ("nmae",)),
    ("csv: other type", nothing, ("contacts", "import", "people.csv", "--type", "first_name=bool"), DATA, ("text",)),
    # ── Streams ──────────────────────────────────────────────────────────────
    ("stream: mode", given("bad.toml", STREAM.replace('"full"', '"all"')), STREAM_APPLY, DATA, ("tracking", "'all'")),
    ("stream: type", given("bad.toml", STREAM + 'threshold = "high"'), STREAM_APPLY, DATA, ("threshold", "`str`")),
    ("stream: unknown", nothing, ("stream", "show", "nope"), DATA, ("'nope'", "courses")),
    # ── Programs and templates ───────────────────────────────────────────────
    ("program: no file", nothing, ("program", "apply", "gone.toml"), DATA, ("gone.toml",)),
    ("program: no toml", given("bad.toml", "[[step"), APPLY, DATA, ("bad.toml", "Expected")),
    ("program: stream", given("bad.toml", PROGRAM.replace("courses", "nope")), APPLY, DATA, ("stream", "'nope'")),
    ("program: wait", given("bad.toml", PROGRAM + SECOND_STEP + 'wait = "soon"'), APPLY, DATA, ("wait", "'soon'")),
    ("program: folder", given("bad.toml", PROGRAM.replace("hello", "adieu")), APPLY, DATA, ("adieu", "folder")),
    ("template: name", message("<p>\n{{ frist_name }}" + FOOTER), APPLY, DATA, ("message.html:2", "'frist_name'")),
    ("template: class", message("{{ ''.__class__.__mro__ }}" + FOOTER), APPLY, DATA, ("message.html:1", "sandbox")),
    ("template: files", message("{% include '/etc/passwd' %}" + FOOTER), APPLY, DATA, ("message.html:1", "include")),
    ("template: no imprint", message('<a href="{{ unsubscribe_url }}">x</a>'), APPLY, DATA, ("imprint",)),
    ("template: no way out", message("{{ imprint }}"), APPLY, DATA, ("unsubscribe_url",)),
    *((f"program: {verb} of none", nothing, ("program", verb, "nope"), DATA, ("nope",))
      for verb in ("start", "status", "preview")),
    ("program: pause of a draft", nothing, ("program", "pause", "series"), DATA, ("series", "draft")),
    ("test: no address", nothing, ("program", "test", "series", "--to", "Ann"), DATA, ("--to", "'Ann'")),
    # ── Questions ────────────────────────────────────────────────────────────
    ("audit: no program", nothing, ("audit", "nope"), DATA, ("'nope'", "series")),
    ("why: nobody", nothing, ("why", "who@reader.test"), DATA, ("who@reader.test",)),
    # ── Configuration and keys ───────────────────────────────────────────────
    ("init: twice", nothing, ("init", "--domain", DOMAIN), DATA, ("is there already",)),
    ("config: no file", nothing, ("check", "-c", "gone.toml"), CONFIG, ("gone.toml", "mtad init")),
    ("config: type", configured(f'domain = "{DOMAIN}"', "domain = 5"), ("check", *BAD), CONFIG, ("domain", "`int`")),
    ("config: key", configured("[mta]", "[mta]\nworker = 5"), ("check", *BAD), CONFIG, ("mta", "`worker`")),
    ("config: proxies", configured("[tracker]", '[tracker]\ntrusted_proxies = ["all"]'), ("run", *BAD), CONFIG,
     ("trusted_proxies", "'all'")),
    ("config: state", configured("[database]", 'state_dir = "people.csv"\n[database]'), ("run", *BAD), UNAVAILABLE,
     ("state_dir", "people.csv")),
    ("key: no file", configured("keys/dkim-", "keys/gone-"), ("run", *BAD), CONFIG, ("keys/gone-", "DKIM")),
    ("key: tracker's", configured("[tracker]", '[tracker]\nkeys = "gone"'), ("run", *BAD), CONFIG, ("gone", "keys")),
    ("key: to preview", configured("[tracker]", '[tracker]\nkeys = "gone"'), ("program", "preview", "series", *BAD),
     CONFIG, ("gone", "keys")),
    # ── Sockets and the database ─────────────────────────────────────────────
    ("listen: not ours", configured('"127.0.0.1:0"', '"192.0.2.1:1"'), ("run", *BAD), UNAVAILABLE,
     ("tracker.listen", "192.0.2.1:1")),
    ("database: url", database("mysql://x/y"), ("migrate", *BAD), CONFIG, ("database.url", "is mysql://…")),
    ("database: host", database("postgresql://u:secret@nowhere.invalid/x"), ("audit", "x", *BAD), UNAVAILABLE,
     ("postgresql://u@nowhere.invalid/x",)),
    ("database: no port", database("postgresql://u@127.0.0.1:99999/x"), ("audit", "x", *BAD), UNAVAILABLE,
     ("127.0.0.1:99999",)),
    ("database: socket", database("postgresql://postgres@/x?host=/nowhere"), ("run", *BAD), UNAVAILABLE,
     ("/nowhere", "No such file")),
    ("database: user", database("postgresql://nobody:secret@/mtad?SERVER"), ("audit", "x", *BAD), UNAVAILABLE,
     ("nobody",)),
    ("database: name", database("postgresql://postgres@/nope?SERVER"), ("migrate", *BAD), UNAVAILABLE, ("nope",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("prepare", "command", "code", "says"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    place: Place, prepare: Prepare, command: tuple[str, ...], code: int, says: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    prepare(place)
    before = place.files()

    done = place.mtad(*command)

    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("mtad: ")
    assert (done.stderr.count("\n"), caplog.text) == (1, ""), done.stderr
    assert all(text in done.stderr for text in says), done.stderr
    assert "secret" not in done.stderr
    assert place.files() - before <= {str(place.folder / "state"), str(place.folder / "state" / "run.lock")}


@pytest.mark.parametrize("key", ["tracker", "metrics"])
def test_a_port_in_use_is_one_line_and_starts_nothing(place: Place, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        old = 'listen = "127.0.0.1:0"' if key == "tracker" else '# listen = ""'
        place.configured(old, f'listen = "{address}"')

        done = place.mtad("run", *BAD)

    assert done.returncode == UNAVAILABLE
    assert done.stderr == f"mtad: {key}.listen: cannot listen on {address}: another program listens there already\n"


def test_after_all_of_it_the_database_holds_what_was_there_before(place: Place) -> None:
    """Run alone it says little; after the cases above it says that none of them wrote anything."""
    assert place.must("stream", "list").count("\n") == 2
    assert place.must("program", "list").count("\n") == 2
    assert "contact 1, since" in place.must("contact", "show", "ann@reader.test")
    assert place.must("suppress", "list").count("\n") == 1
