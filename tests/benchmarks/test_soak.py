import json
import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.samples import rss_mb
from benchmarks.soak import KEEPS, Report
from tests.benchmarks.program import run


def test_toy_soak_loses_nothing_and_tells_how_everything_went(tmp_path: Path) -> None:
    out, plot = tmp_path / "soak.json", tmp_path / "soak.svg"
    code, said = run(
        "soak", "--minutes", "0.06", "--rate", "10", "--period", "1.5", "--hits", "10", "--every", "0.5",
        "--size", "3000", "--workers", "1", "--sink", "lab", "--limit", "280", "--json", str(out), "--svg", str(plot),
    )  # fmt: skip

    assert code == 0, said
    found = json.loads(out.read_bytes())
    assert set(found) == set(Report.__struct_fields__)
    assert (found["lost"], found["duplicates"], found["hits_lost"]) == (0, 0, 0)
    assert found["mails"] > 0
    assert found["mails"] % 15 == 0  # whole campaigns
    assert len(found["rss_mb"]) == 1
    assert found["rss_mb"][0]["most"] > 10
    assert set(found["flat"]) == {"memory", "dead_rows", "tables"}
    assert "job" in found["tables_mb"]
    assert set(found["kept_bytes_per_mail"]) == KEEPS
    assert not KEEPS & set(found["tables_mb"])
    assert len(list(ET.fromstring(plot.read_text()).iter("{http://www.w3.org/2000/svg}polyline"))) == 4


@pytest.mark.parametrize("argument", ["--minutes=0", "--rate=0", "--workers=0"])
def test_arguments_that_ask_for_nothing_are_refused(argument: str) -> None:
    code, said = run("soak", argument)

    assert code == 2
    assert argument.partition("=")[0] in said.splitlines()[-1]


def test_resident_memory_is_that_of_a_python_process() -> None:
    assert 10 < rss_mb(os.getpid()) < 10_000
