import json
from pathlib import Path

import pytest

from benchmarks.stress import Report, Told
from tests.benchmarks.program import run


def test_no_answered_hit_is_lost_or_doubled_by_a_kill_or_an_outage_and_no_click_fails_without_postgres(
    tmp_path: Path,
) -> None:
    out = tmp_path / "stress.json"
    code, said = run(
        "stress", "--kills", "1", "--outage", "0.5", "--rate", "100", "--connections", "8", "--contacts", "20",
        "--sink", "lab", "--limit", "280", "--json", str(out),
    )  # fmt: skip

    assert code == 0, said
    found = json.loads(out.read_bytes())
    assert set(found) == set(Report.__struct_fields__)
    for trouble in ("under_kills", "under_outage"):
        told = found[trouble]
        assert set(told) == set(Told.__struct_fields__)
        assert (told["lost"], told["doubled"], told["answered"] + told["failed"]) == (0, 0, told["sent"])
        assert told["answered"] > 50
    assert found["under_outage"]["failed"] == 0


@pytest.mark.parametrize("arguments", [["--kills=-1"], ["--kills=0", "--outage=0"], ["--contacts=0"]])
def test_arguments_that_ask_for_nothing_are_refused(arguments: list[str]) -> None:
    code, said = run("stress", *arguments)

    assert code == 2
    assert arguments[0].partition("=")[0] in said.splitlines()[-1]
