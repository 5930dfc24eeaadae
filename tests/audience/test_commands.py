"""`mtad contacts import` and `mtad suppress …`: arguments in, words, JSON and files out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mtad.base.errors import InputError
from mtad.cli import contacts, suppress

Command = Callable[..., Result]


@pytest.fixture
def command(database_url: str, tmp_path: Path) -> Command:
    config = tmp_path / "mtad.toml"
    config.write_text(f'domain = "example.com"\n[database]\nurl = "{database_url}"\n')

    def call(app: typer.Typer, *arguments: str) -> Result:
        result = CliRunner().invoke(app, [*arguments, "--config", str(config)])
        assert result.exit_code == 0 or isinstance(result.exception, InputError), result.output
        return result

    return call


def test_import_tells_what_it_did_and_where_the_rest_is(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("email,age\na@x.test,44\nnobody,1\n")

    said = command(contacts.app, "import", str(file)).output

    assert "1  contacts made" in said
    assert "age (number)" in said
    assert f"{tmp_path}/people.rejects.csv: 1 bad row" in said


def test_import_prints_json_for_programs(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("email,plz\na@x.test,80331\n")

    said = json.loads(command(contacts.app, "import", str(file), "--type", "plz=text", "--dry-run", "--json").stdout)

    assert (said["rows"], said["made"], said["dry_run"], said["attributes"]) == (1, 1, True, {"plz": "text"})
    assert json.loads(command(contacts.app, "import", str(file), "--json").stdout)["made"] == 1


def test_import_of_a_broken_file_is_one_line_and_not_success(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text('email,name\na@x.test,"A\n')

    result = command(contacts.app, "import", str(file))

    assert isinstance(result.exception, InputError)
    assert str(result.exception) == f'{file}: line 2: a quote (") is opened and never closed'


def test_unknown_type_is_refused(command: Command, tmp_path: Path) -> None:
    result = command(contacts.app, "import", str(tmp_path / "x.csv"), "--type", "plz=string")

    assert str(result.exception) == "--type plz=string: write NAME=text, number, date or bool"


def test_suppressions_are_added_listed_and_released(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text("email,reason\nb@x.test,complained\n")

    assert "2 newly suppressed" in command(suppress.app, "add", "A@x.test", "@Gone.test").output
    assert "1 newly suppressed" in command(suppress.app, "import", str(file)).output
    listed = json.loads(command(suppress.app, "list", "--json").stdout)
    assert [(row["key"], row["scope"], row["reason"]) for row in listed] == [
        ("@gone.test", "all", "manual"),
        ("a@x.test", "all", "manual"),
        ("b@x.test", "marketing", "complained"),
    ]
    assert "2 released" in command(suppress.app, "release", "a@X.test", "@gone.test").output
    assert "b@x.test" in command(suppress.app, "list").output
    assert [row["key"] for row in json.loads(command(suppress.app, "list", "--json").stdout)] == ["b@x.test"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "nobody"], "'nobody' is neither an address nor a domain"),
        (["add", "a@x.test", "--scope", "some"], "--scope some: write all or marketing"),
        (["add", "a@x.test", "--reason", "bored"], "--reason bored: write manual, hard_bounce, complained"),
        (["release", "a@@x.test"], "the part before the @ is not valid"),
    ],
)
def test_wrong_arguments_are_one_line(command: Command, arguments: list[str], said: str) -> None:
    result = command(suppress.app, *arguments)

    assert isinstance(result.exception, InputError)
    assert str(result.exception) == said
    assert json.loads(command(suppress.app, "list", "--json").stdout) == []
