"""`mtad contact export|erase` and `mtad retention`: arguments in, words and JSON out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mtad.base.errors import InputError
from mtad.cli import contacts, persons, retention

Command = Callable[..., Result]

people = typer.Typer()
persons.register(people)


@pytest.fixture
def command(database_url: str, tmp_path: Path) -> Command:
    config = tmp_path / "mtad.toml"
    config.write_text(f'domain = "example.com"\n[database]\nurl = "{database_url}"\n')
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "suppression.key").write_text("ab" * 32)
    (tmp_path / "people.csv").write_text("email,city\na@x.test,Kiel\n")

    def call(app: typer.Typer, *arguments: str) -> Result:
        result = CliRunner().invoke(app, [*arguments, "--config", str(config)])
        assert result.exit_code == 0 or isinstance(result.exception, InputError), result.output
        return result

    call(contacts.app, "import", str(tmp_path / "people.csv"))
    return call


def test_one_person_is_exported_erased_and_kept_out(command: Command, tmp_path: Path) -> None:
    said = json.loads(command(people, "export", "A@x.test").stdout)
    assert said["contact"][0]["attributes"] == {"city": "Kiel"}

    assert "nothing was erased: add --yes" in str(command(people, "erase", "a@x.test").exception)
    done = json.loads(command(people, "erase", "a@x.test", "--yes", "--json").stdout)
    assert done["contacts"] == 1
    assert (tmp_path / "state" / "erased.hashes").read_text().startswith(done["hash"])

    said = json.loads(command(people, "export", "a@x.test").stdout)  # that there is a hash is all that is known
    assert set(said) == {"address", "made", "suppression", "names"}
    again = json.loads(command(contacts.app, "import", str(tmp_path / "people.csv"), "--json").stdout)
    assert again["reasons"] == {"erased": 1}


def test_whoever_a_backup_brought_back_is_erased_again(command: Command, tmp_path: Path) -> None:
    command(people, "erase", "b@x.test", "--yes")
    hashes = tmp_path / "state" / "erased.hashes"
    (tmp_path / "copy").write_text(hashes.read_text())
    (tmp_path / "people.csv").write_text("email\nc@x.test\n")

    assert "0 addresses erased again" in command(people, "erase", "--again", "--hashes", str(tmp_path / "copy")).stdout
    assert "ADDRESS: is missing" in str(command(people, "erase").exception)
    assert "leave the address out" in str(command(people, "erase", "a@x.test", "--again").exception)


def test_terms_are_shown_and_kept_to(command: Command) -> None:
    assert "90d" in command(retention.app, "show").stdout
    rows = json.loads(command(retention.app, "show", "--json").stdout)
    assert {row["kept"] for row in rows} >= {"90d", "760d", "30d", "1095d"}
    done = json.loads(command(retention.app, "apply", "--json").stdout)
    assert {row["sweep"] for row in done} == {row["by"] for row in rows if row["by"].startswith(("retention", "erase"))}
