"""`mtad simulate`: table, plot and JSON, with the stream's own file."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mtad.base.errors import InputError
from mtad.cli import shell
from mtad.cli import simulate as command
from mtad.cli.main import app

STREAM = """
name = "courses"
from = "a@example.com"
imprint = "us"
tracking = "full"
[policy]
attempts = 4
day = "1s"
"""


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    path = tmp_path / "stream.toml"
    path.write_text(STREAM)
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["simulate", "--days", "56", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_a_stream_file_stands_beside_simpler_rules(stream: Path) -> None:
    text = run("--contacts", "40", "--policy", stream)

    assert "everybody" in text
    assert "every mail counts, 3 in a row" in text
    assert "HubSpot's 11 and 16" in text
    assert "How the audience breathes: courses, stream.toml" in text


def test_no_line_is_wider_than_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "out", Console(width=80))

    assert max(map(len, run("--contacts", "40").splitlines())) <= 80


def test_json_and_plot_say_the_same_as_the_table(stream: Path, tmp_path: Path) -> None:
    written = json.loads(run("--contacts", "40", "--policy", stream, "--json", "--svg", tmp_path / "plot.svg"))

    everybody, *_, ours = written["rules"]
    assert (everybody["mails"], everybody["mails_saved"], everybody["reads_kept"]) == (320, 0, 1.0)
    assert ours["mails"] + ours["mails_saved"] == 320
    assert ours["mailed"][-1] < 40
    texts = {text.text for text in ET.parse(tmp_path / "plot.svg").iter("{http://www.w3.org/2000/svg}text")}
    assert {"audience by state: courses, stream.toml", "day 49", "cooling"} <= texts


def test_several_processes_come_to_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    one = json.loads(run("--contacts", "30", "--json"))
    monkeypatch.setattr(command, "CROWD", 16)
    two = json.loads(run("--contacts", "30", "--json"))

    assert one["rules"] == two["rules"]


def test_a_file_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: there is no such file"):
        run("--policy", tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"plot\.svg"):
        run("--contacts", "1", "--svg", tmp_path / "none" / "plot.svg")
