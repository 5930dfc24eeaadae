import json
from pathlib import Path

import pytest

from benchmarks.mixed import Report
from tests.benchmarks.program import run


def test_campaign_hits_and_transactional_mail_all_come_through(tmp_path: Path) -> None:
    out = tmp_path / "mixed.json"
    code, said = run(
        "mixed", "--contacts", "60", "--size", "3000", "--workers", "1", "--sink", "lab", "--hits", "20",
        "--transactional", "10", "--limit", "280", "--json", str(out),
    )  # fmt: skip

    assert code == 0, said
    found = json.loads(out.read_bytes())
    assert set(found) == set(Report.__struct_fields__)
    assert (found["lost"], found["duplicates"]) == (0, 0)
    assert (found["hits_failed"], found["hits_lost"], found["hits_doubled"]) == (0, 0, 0)
    assert found["transactional_per_s"] > 0
    assert found["transactional_p50_ms"] <= found["transactional_p99_ms"] <= found["transactional_max_ms"]
    assert found["bulk_share"] == pytest.approx(found["bulk_rate_mixed"] / found["bulk_rate_alone"], rel=0.05)
    assert set(found["cpu_us_per_bulk_mail"]) == {"alone", "mixed"}


@pytest.mark.parametrize("argument", ["--contacts=0", "--hits=0", "--workers=0"])
def test_arguments_that_ask_for_nothing_are_refused(argument: str) -> None:
    code, said = run("mixed", argument)

    assert code == 2
    assert argument.partition("=")[0] in said.splitlines()[-1]
