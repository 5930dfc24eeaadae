"""compose, sign and gate at toy size."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compose import Report as ComposeReport
from benchmarks.cpu import Cost, rest
from benchmarks.gate import Report as GateReport
from benchmarks.letters import letters
from benchmarks.sign import Report as SignReport
from tests.benchmarks.program import run


def figures(name: str, out: Path, *arguments: str) -> dict[str, Any]:
    code, said = run(name, *arguments, "--rounds", "2", "--json", str(out))
    assert code == 0, said
    found: dict[str, Any] = json.loads(out.read_bytes())
    return found


def test_toy_mails_are_composed_and_each_part_costs_something(tmp_path: Path) -> None:
    found = figures("compose", tmp_path / "out.json", "--mails", "20", "--size", "9000")

    assert set(found) == set(ComposeReport.__struct_fields__)
    assert found["mails"] == 20
    assert 7_500 < found["message_bytes"] < 9_500  # without its signature
    assert set(found["parts"]) == {"tokens", "subject", "text", "html", "mime", "recipient"}
    costs = [found["compose"], found["message"], *found["parts"].values()]
    assert all(0 < cost["least"] <= cost["median"] for cost in costs)
    explained = sum(part["median"] for part in found["parts"].values()) + found["rest"]["median"]
    assert explained == pytest.approx(found["compose"]["median"], abs=0.05)


def test_toy_mails_are_signed_by_every_key(tmp_path: Path) -> None:
    found = figures("sign", tmp_path / "out.json", "--mails", "5")

    assert set(found) == set(SignReport.__struct_fields__)
    assert 12_000 < found["body_bytes"] < 15_000
    assert set(found["sign"]) == {"rsa2048", "ed25519", "both"}
    assert set(found["key"]) == {"rsa2048", "ed25519"}
    assert set(found["parts"]) == {"body_hash", "headers"}
    costs = [found["without_key"], found["relaxed_body"], *(found["sign"] | found["key"] | found["parts"]).values()]
    assert all(0 < cost["least"] <= cost["median"] for cost in costs)


def test_toy_verdicts_are_of_every_kind_and_reason(tmp_path: Path) -> None:
    found = figures("gate", tmp_path / "out.json", "--facts", "2000")

    assert set(found) == set(GateReport.__struct_fields__)
    assert sum(found["verdicts"].values()) == sum(found["reasons"].values()) == found["facts"] == 2000
    assert set(found["by_verdict"]) == set(found["verdicts"]) == {"send", "skip", "defer"}
    assert found["reasons"]["send"] == found["verdicts"]["send"] > 1000
    assert len(found["reasons"]) == 16  # sent, or held by one of the fifteen reasons


def test_the_same_seed_makes_the_same_mails() -> None:
    first, again, other = (list(letters(3, 4000, seed).compose()) for seed in (1, 1, 2))

    assert first == again
    assert [mail.message() for mail in first] != [mail.message() for mail in other]


def test_the_rest_is_what_parts_leave() -> None:
    assert rest(Cost(10, 9), {"a": Cost(2, 1), "b": Cost(3, 3)}) == Cost(5, 5)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("compose", ["--mails", "0"], "--mails: 1 to 20,000, is 0"),
        ("sign", ["--rounds", "0"], "--rounds: at least 1"),
        ("gate", ["--facts", "99"], "--facts: 100 to 200,000, is 99"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(name: str, arguments: list[str], said: str) -> None:
    code, stderr = run(name, *arguments)

    assert code not in (0, 1)
    assert said in stderr.splitlines()[-1]
