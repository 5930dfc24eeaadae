import json
import shutil
from pathlib import Path

import pytest

from benchmarks import wrk
from benchmarks.hits import Noted, number_of
from benchmarks.openloop import Outcome, quantile
from benchmarks.tracking import Report
from benchmarks.wrk import Flood
from mtad.base.errors import Unavailable
from tests.benchmarks.program import run

INSTALLED = all(shutil.which(name, path=wrk._SEARCH) for name in ("wrk", "nginx"))


def outcome(sent: int, failed: list[int]) -> Outcome:
    return Outcome(sent, 1.0, failed, p50_ms=1.0, p99_ms=2.0, max_ms=3.0, cpu_us=10.0)


@pytest.mark.skipif(not INSTALLED, reason="needs wrk and nginx")
def test_every_answered_hit_is_in_postgres_once_and_nginx_is_asked_too(tmp_path: Path) -> None:
    out = tmp_path / "tracking.json"
    code, said = run(
        "tracking", "--seconds", "1", "--connections", "4", "--rate", "50", "--contacts", "20", "--sink", "lab",
        "--limit", "280", "--json", str(out),
    )  # fmt: skip

    assert code == 0, said
    found = json.loads(out.read_bytes())
    assert set(found) == set(Report.__struct_fields__)
    assert (found["lost"], found["doubled"], found["failed"]) == (0, 0, 0)
    assert found["paths"] == 40
    assert found["hits"] >= 50
    for name in ("hits_per_s", "p50_ms", "p99_ms", "p99_ms_at_2000", "rate_kept", "nginx_hits_per_s"):
        assert found[name] > 0, name
    assert found["ratio_to_nginx"] == pytest.approx(found["hits_per_s"] / found["nginx_hits_per_s"], abs=1e-4)


def test_missing_program_is_one_line_that_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrk, "_SEARCH", "")

    with pytest.raises(Unavailable, match=r"nginx: .*apt install nginx-light"):
        wrk.nginx_program()
    assert Unavailable.exit_code == 69


@pytest.mark.parametrize("argument", ["--seconds=0", "--contacts=0", "--rate=0"])
def test_arguments_that_ask_for_nothing_are_refused(argument: str) -> None:
    code, said = run("tracking", argument)

    assert code == 2
    assert argument.partition("=")[0] in said.splitlines()[-1]


def test_hit_is_lost_only_when_it_was_answered_and_has_no_row() -> None:
    noted = Noted({1: 1, 2: 3, 4: 1})

    assert noted.lost(outcome(5, failed=[])) == 2
    assert noted.lost(outcome(5, failed=[3])) == 1
    assert noted.doubled == 2


@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        ([], 0),
        ([999, 1000], 0),  # on the wire at the end, as far as anybody knows
        ([1], 1),  # answered long before
        ([1, 999, 1000], 1),
        ([990, 998, 999, 1000], 2),  # more than were on the wire
    ],
)
def test_what_no_longer_can_have_been_on_the_wire_is_lost(missing: list[int], lost: int) -> None:
    flood = Flood(sent=1000, answered=998, seconds=1.0, failed=0, p50_ms=1.0, p99_ms=5.0, max_ms=10.0)

    assert Noted({number: 1 for number in range(1, 1001) if number not in missing}).surely_lost(flood) == lost


def test_quantiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]

    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert quantile([7.0], 0.01) == 7.0
    assert quantile([], 0.5) == 0.0


@pytest.mark.parametrize(
    ("network", "number"), [("fd01:0:1::/48", 1), ("fd02:1:0::/48", 65536), ("fd02:2:3::/48", 0x20003)]
)
def test_number_of_a_request_is_in_its_network(network: str, number: int) -> None:
    assert number_of(network) == number
