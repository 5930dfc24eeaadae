"""How a plan goes on, or does not."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.source import Warmup
from mtad.source.warmup import Day, Step, next_step

START = date(2026, 3, 1)
PLAN = Warmup(start=START, plan=(50, 100, 200), provider={"google": (20, 40)})


@pytest.mark.parametrize(
    ("last", "step"),
    [
        (None, Step(0, 50)),
        (Day(0, 50, 50, 0, 0), Step(1, 100)),
        (Day(0, 50, 25, 2, 0), Step(1, 100)),
        (Day(0, 50, 24, 0, 0), Step(0, 50, "only 24 of 50 mails were sent")),
        (Day(1, 100, 100, 11, 0), Step(1, 100, "11 of 100 mails were refused because of us")),
        (Day(1, 100, 100, 10, 0), Step(2, 200)),
        (Day(1, 100, 100, 0, 1), Step(1, 100, "1 complaints about 100 mails")),
        (Day(2, 200, 200, 0, 0), Step(3, None)),
        (Day(3, None, 9, 9, 9), Step(3, None)),
    ],
)
def test_a_plan_goes_on_after_a_good_day_only(last: Day | None, step: Step) -> None:
    assert next_step(PLAN, "yahoo", last) == step


def test_a_provider_may_have_a_plan_of_its_own() -> None:
    assert next_step(PLAN, "google", None) == Step(0, 20)


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1), st.integers(0, 2)), max_size=30))
def test_no_day_allows_more_than_one_step_beyond_the_last(days: list[tuple[int, float, int]]) -> None:
    last, reached = None, -1
    for share, refused, complaints in days:
        step = next_step(PLAN, "yahoo", last)
        assert step.step <= reached + 1
        reached = max(reached, step.step)
        sent = min(share, step.allowed or share)
        last = Day(step.step, step.allowed, sent, int(sent * refused), complaints)
