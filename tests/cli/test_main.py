"""Commands stand in modules that are imported when they are asked for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from mtad.cli.main import _PANELS, _brought, _Lazy, _Program, _Root, app

MODULES = sorted({*_Root.modules.values(), *_Program.modules.values()})


@pytest.mark.parametrize("group", [_Root, _Program])
@pytest.mark.parametrize("module", MODULES)
def test_each_command_of_a_module_can_be_reached_and_no_other_is_listed(group: type[_Lazy], module: str) -> None:
    brought = typer.main.get_group(_brought(module)[group.place]).commands
    listed = {name for name, where in group.modules.items() if where == module}

    assert set(brought) == listed - {"program"}  # the group itself, brought by nobody


def test_help_shows_every_command_under_a_heading() -> None:
    said = CliRunner().invoke(app, ["--help"]).stdout

    assert [said.count(f"─ {heading} ─") for heading in _PANELS] == [1] * len(_PANELS)
    assert all(re.search(rf"^│ {command} ", said, re.MULTILINE) for command in _Root.modules)
    assert "─ Commands ─" not in said


def test_every_module_of_commands_is_listed() -> None:
    folder = Path(__file__).parents[2] / "mtad" / "cli"
    found = {path.stem for path in folder.glob("*.py") if "import typer\n" in path.read_text()}

    assert found - {"main", "shell"} == set(MODULES)


@pytest.mark.parametrize("command", [["contacts", "import", "x.csv"], ["program", "start", "x"]])
def test_command_starts_without_what_others_need(command: list[str], tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv[1:] = {command!r}\n"
        "from mtad.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code)\n"
        "print(sorted({'aiohttp', 'cryptography', 'dns', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["78", "[]"], done.stderr
