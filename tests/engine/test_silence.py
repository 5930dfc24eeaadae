"""When silence is not believed: the brake, and a provider of which we hear too little."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rules import Brake
from engine.silence import Signs, heard_until, held_providers, may_pause

USUAL = {"gmail.test": Signs(10_000, 2000), "gmx.test": Signs(10_000, 1000), "tiny.test": Signs(20, 10)}


@pytest.mark.parametrize(
    ("reachable", "paused", "more"),
    [(10_000, 0, 500), (10_000, 499, 1), (10_000, 500, 0), (10_000, 900, 0), (200, 0, 100), (0, 0, 100)],
)
def test_brake_leaves_a_twentieth_and_at_least_a_hundred(reachable: int, paused: int, more: int) -> None:
    assert may_pause(Brake(), reachable=reachable, paused=paused) == more


def test_sweep_that_would_pause_six_percent_is_stopped() -> None:
    assert may_pause(Brake(), reachable=5000, paused=0) < 300


@given(st.integers(0, 10**6), st.lists(st.integers(0, 5000), max_size=20))
def test_sweeps_never_pause_more_than_the_brake_together(reachable: int, wanted: list[int]) -> None:
    paused = 0
    for many in wanted:
        if many <= may_pause(Brake(), reachable=reachable, paused=paused):
            paused += many

    assert paused <= max(reachable * 0.05, 100)


def test_provider_with_a_third_of_its_usual_answers_is_held_and_the_others_are_not() -> None:
    lately = {"gmail.test": Signs(1000, 66), "gmx.test": Signs(1000, 34)}

    assert held_providers(USUAL, lately) == {
        "gmail.test": "gmail.test: 66 of 1,000 mails were answered, where 200 is usual;"
        " its silence is not believed until more is heard"
    }


@pytest.mark.parametrize(
    "lately",
    [
        {},
        {"gmail.test": Signs(99, 0)},  # 19.8 expected
        {"gmail.test": Signs(1000, 67)},
        {"tiny.test": Signs(30, 0)},
        {"new.test": Signs(10_000, 0)},
        {"gmail.test": Signs(0, 0)},
    ],
)
def test_too_little_to_judge_holds_nobody(lately: dict[str, Signs]) -> None:
    assert held_providers(USUAL, lately) == {}


@pytest.mark.parametrize(
    ("wait", "outages", "later"),
    [
        (3, [], 0),
        (3, [(-2, 0), (3, 4)], 0),  # before and after
        (3, [(1, 2)], 1),
        (3, [(-1, 0.5), (2.5, 9)], 1),
        (5, [(1, 2)], 0),  # three of the five days were listened to
        (5, [(0, 5)], 3),
        (1, [(0, 1)], 1),
        (2, [(0, 1)], 1),
        (4, [(1, 2)], 0),  # the third of these, a day later
    ],
)
def test_a_wait_is_over_when_it_was_listened_to_for_so_long(
    wait: float, outages: list[tuple[float, float]], later: float
) -> None:
    mailed = datetime(2026, 11, 1, tzinfo=UTC)
    day = timedelta(days=1)
    spans = [(mailed + since * day, mailed + until * day) for since, until in outages]

    assert heard_until(mailed, mailed + wait * day, 3 * 86400.0, spans) == mailed + (wait + later) * day
