"""What operators are told to write and to type is taken as it stands."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mtad
from mtad.base.config import load_config
from mtad.cli.main import app

GUIDE = (Path(mtad.__file__).parent / "ops" / "delivery.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^```toml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
TYPED = re.findall(r"^\$ (mtad .*)$", GUIDE, re.MULTILINE) + re.findall(r"`(mtad [a-z][^`…]*)`", GUIDE)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_of_the_guide_is_a_configuration(table: str, tmp_path: Path) -> None:
    path = tmp_path / "mtad.toml"
    path.write_text(f'domain = "example.com"\n{table}', encoding="utf-8")

    assert load_config(path).domain == "example.com"


@pytest.mark.parametrize("line", sorted(set(TYPED)))
def test_every_command_of_the_guide_exists_with_its_options(line: str) -> None:
    words = shlex.split(line)[1:]
    names = words[:2] if words[0] in ("config", "dkim", "automation", "program", "suppress") else words[:1]

    help_ = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200"})

    assert help_.exit_code == 0, help_.output
    assert [word for word in words if word.startswith("--") and word not in help_.output] == []


def test_every_metric_of_the_guide_stands_in_a_readme() -> None:
    root = Path(mtad.__file__).parents[1]
    said = "".join(path.read_text(encoding="utf-8") for path in root.glob("mtad/*/README.md"))

    assert [name for name in re.findall(r"mtad_[a-z_]+", GUIDE) if f"`{name}" not in said] == []
