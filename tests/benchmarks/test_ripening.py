import json
from pathlib import Path

import pytest

from benchmarks.ripening import Report
from tests.benchmarks.program import run


def test_every_hit_is_folded_after_its_settle_window(tmp_path: Path) -> None:
    out = tmp_path / "ripening.json"
    code, said = run(
        "ripening", "--rate", "20", "--seconds", "1", "--settle", "0.2", "--workers", "1", "--sink", "lab",
        "--limit", "280", "--json", str(out),
    )  # fmt: skip

    assert code == 0, said
    found = json.loads(out.read_bytes())
    assert set(found) == set(Report.__struct_fields__)
    assert found["folded"] == found["hits"] > 0
    assert (found["lost"], found["doubled"], found["failed"]) == (0, 0, 0)
    assert found["hit_to_fold_s"]["p99"] >= found["hit_to_fold_s"]["p50"] > 0


@pytest.mark.parametrize("argument", ["--seconds=0", "--settle=-1", "--rate=1000000"])
def test_arguments_that_cannot_be_are_refused(argument: str) -> None:
    code, said = run("ripening", argument)

    assert code == 2
    assert argument.partition("=")[0] in said.splitlines()[-1]
