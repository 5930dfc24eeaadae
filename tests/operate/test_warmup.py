"""`mtad warmup`: how far, and what holds it back."""

import json
from datetime import date
from functools import partial
from pathlib import Path

import pytest

from mtad.queue import warmup
from mtad.source.warmup import Day, Step
from tests.operate.conftest import Mtad
from tests.queue.world import World

WARMUP = """
[[source]]
name = "new"
[source.warmup]
start = 2026-03-01
plan = [50, 100]
"""


@pytest.fixture
def warming(mtad: Mtad, tmp_path: Path) -> Mtad:
    with (tmp_path / "mtad.toml").open("a") as config:
        config.write(WARMUP)
    return mtad


def first(step: Step, _last: Day | None) -> Step:
    return step


async def test_each_day_is_shown_with_what_holds_the_plan_back(world: World, warming: Mtad) -> None:
    for day, provider, step in (
        (date(2026, 3, 1), "google", Step(0, 50)),
        (date(2026, 3, 2), "google", Step(0, 50, "only 3 of 50 mails were sent")),
        (date(2026, 3, 3), "yahoo", Step(2, None)),
    ):
        await warmup.grant(world.rows.conn, "new", provider, day, 3, 1, partial(first, step))

    rows = json.loads((await warming("warmup", "--json")).stdout)
    shown = (await warming("warmup")).stdout

    assert [
        (row["provider"], row["day"], row["step"], row["allowed"], row["used"], row["refused"]) for row in rows
    ] == [
        ("google", "2026-03-02", 1, 50, 3, 1),
        ("yahoo", "2026-03-03", 3, None, 3, 1),
    ]
    assert rows[0]["held"] == "only 3 of 50 mails were sent"
    assert "no limit" in shown


async def test_a_source_that_has_not_sent_yet_is_shown_and_none_is_said(warming: Mtad, tmp_path: Path) -> None:
    first = await warming("warmup", "--json")
    config = tmp_path / "mtad.toml"
    config.write_text(config.read_text().replace(WARMUP, ""))
    none = await warming("warmup")

    [row] = json.loads(first.stdout)
    assert (row["source"], row["day"], row["allowed"], row["held"]) == ("new", None, 50, "begins 2026-03-01")
    assert none.stdout.startswith("no source is being warmed up")
