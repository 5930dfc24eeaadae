import json
from pathlib import Path

import pytest

from benchmarks.gauges import buckets, quantile, total, tree_cpu
from benchmarks.send import Report
from benchmarks.sinks import smtp_sink_program
from mtad.base.errors import Unavailable
from tests.benchmarks.program import run

PAGE = """\
# TYPE mtad_begin_to_data_seconds histogram
mtad_begin_to_data_seconds_bucket{{le="0.01"}} {}
mtad_begin_to_data_seconds_bucket{{le="0.02"}} {}
mtad_begin_to_data_seconds_bucket{{le="+Inf"}} {}
# TYPE mtad_attempts counter
mtad_attempts_total{{outcome="delivered"}} 3.0
mtad_attempts_total{{outcome="deferred"}} 2.0
"""


def test_toy_run_sends_everybody_one_verified_copy_and_says_what_it_used(tmp_path: Path) -> None:
    out = tmp_path / "send.json"
    code, said = run(
        "send", "--contacts", "60", "--size", "15000", "--sink", "lab", "--domains", "20", "--verify",
        "--dkim", "both", "--rsa-seconds", "1", "--limit", "280", "--json", str(out),
    )  # fmt: skip

    assert code == 0, said
    found = json.loads(out.read_bytes())
    assert (found["messages"], found["lost"], found["duplicates"], found["verified"]) == (60, 0, 0, 60)
    assert 14_000 < found["message_bytes"] < 16_000
    assert 1 < found["sites"] <= 20
    assert set(found["cpu_us_per_message"]) == {"mtad", "postgres", "sink"}
    assert set(found["begin_to_data_ms"]) == {"p50", "p99"}
    for name in ("rate", "rsa_limit", "rss_mb_peak", "wal_bytes_per_message", "import_seconds", "enqueue_seconds"):
        assert found[name] > 0, name
    assert set(found) <= set(Report.__struct_fields__)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sink", "192.0.2.1:25"], "must be a loopback address"),
        (["--sink", "nonsense"], "write smtp-sink, lab or 127.0.0.1:PORT"),
        (["--sink", "smtp-sink", "--verify"], "--verify: needs --sink lab"),
        (["--contacts", "1000001"], "--contacts: 1 to 1,000,000"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    code, stderr = run("send", *arguments)

    assert code not in (0, 1)
    assert said in stderr.splitlines()[-1]


def test_missing_smtp_sink_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.sinks._SEARCH", "")

    with pytest.raises(Unavailable, match="smtp-sink: there is no such program"):
        smtp_sink_program()


def test_quantiles_are_linear_within_a_bucket_over_all_workers() -> None:
    found = buckets([PAGE.format(10, 30, 40), PAGE.format(10, 30, 40)], "mtad_begin_to_data_seconds")

    assert found == {0.01: 20, 0.02: 60, float("inf"): 80}
    assert quantile(found, 0.5) == pytest.approx(0.015)
    assert quantile(found, 0.99) == 0.02
    assert quantile({}, 0.5) == 0.0


def test_counters_add_up_over_labels_and_workers() -> None:
    assert total([PAGE.format(0, 0, 0)] * 2, "mtad_attempts_total") == 10


def test_process_that_is_gone_has_used_nothing() -> None:
    assert tree_cpu(2**22 + 1) == 0.0
