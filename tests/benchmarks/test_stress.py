import json
import sys
from pathlib import Path
from subprocess import run

import pytest

from benchmarks.stress import Report, Told


def test_no_answered_hit_is_lost_or_doubled_by_a_kill_or_an_outage_and_no_click_fails_without_postgres(
    tmp_path: Path,
) -> None:
    out = tmp_path / "stress.json"
    done = run(
        [sys.executable, "-m", "benchmarks.stress", "--kills", "2", "--outage", "1.5", "--rate", "100",
         "--connections", "8", "--contacts", "20", "--sink", "lab", "--limit", "150", "--json", str(out)],
        capture_output=True, text=True, check=False, timeout=160,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(out.read_bytes())
    assert set(found) == set(Report.__struct_fields__)
    for trouble in ("under_kills", "under_outage"):
        told = found[trouble]
        assert set(told) == set(Told.__struct_fields__)
        assert (told["lost"], told["doubled"], told["answered"] + told["failed"]) == (0, 0, told["sent"])
        assert told["answered"] > 100
    assert found["under_outage"]["failed"] == 0


@pytest.mark.parametrize("arguments", [["--kills=-1"], ["--kills=0", "--outage=0"], ["--contacts=0"]])
def test_arguments_that_ask_for_nothing_are_refused(arguments: list[str]) -> None:
    done = run(
        [sys.executable, "-m", "benchmarks.stress", *arguments], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 2
    assert arguments[0].partition("=")[0] in done.stderr.splitlines()[-1]
