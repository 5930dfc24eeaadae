"""What an operator can set and what he can watch stands in the README beside the code."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import engine
import mtad
import tracker
from mtad.base.section import Section

ROOT = Path(mtad.__file__).parents[1]
PACKAGES = (mtad, engine, tracker)
KINDS = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum", "Spans"}


def metrics() -> Iterator[tuple[Path, str]]:
    """Every metric that a module makes: the module's path and the name."""
    for package in PACKAGES:
        for path in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if "prometheus_client" not in source and "mtad.base.spans" not in source:
                continue
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
                    match node.args:
                        case [ast.Constant(value=str(name)), *_]:
                            yield path, name


def knobs() -> Iterator[tuple[Path, str]]:
    """Every key of the configuration file: the path of the module that declares it and the key."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    waiting = [Section]
    while waiting:
        section = waiting.pop()
        waiting += section.__subclasses__()
        path = Path(str(importlib.import_module(section.__module__).__file__))
        if section.__module__.startswith("tests."):
            continue
        for field in msgspec.structs.fields(section):
            if field.name != "folder":  # no key
                yield path, field.name


def readme_of(path: Path) -> Path:
    return next(folder / "README.md" for folder in path.parents if (folder / "README.md").exists())


def said_in(readme: Path) -> set[str]:
    """Whatever stands in backquotes: `name`, `name{label}`, `name = value`, [name]."""
    return set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`\n]*)`", readme.read_text(encoding="utf-8")))))


@pytest.mark.parametrize("listed", [metrics, knobs])
def test_every_knob_and_every_metric_stands_in_the_readme_of_its_package(listed: object) -> None:
    assert callable(listed)
    found = set(listed())
    silent = sorted(
        f"{readme_of(path).relative_to(ROOT)}: {name}" for path, name in found if name not in said_in(readme_of(path))
    )

    assert len(found) > 10
    assert not silent, "not said:\n" + "\n".join(silent)


def test_every_metric_is_named_for_its_maker_and_its_unit() -> None:
    names = [name for _, name in metrics()]

    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"mtad_[a-z_]+", name)] == []
