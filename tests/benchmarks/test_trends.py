import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.trends import steps, trend

TIMES = [float(second) for second in range(0, 160, 10)]


def test_what_grows_is_not_flat_and_its_slope_is_per_hour() -> None:
    found = trend(TIMES, [100 + at for at in TIMES], slack=0.0)

    assert not found.flat
    assert found.slope_per_hour == pytest.approx(3600)
    assert (found.first, found.last, found.most) == (100, 250, 250)


def test_what_only_fills_at_the_beginning_is_flat() -> None:
    found = trend(TIMES, [10.0, 40.0, 70.0, 90.0, *[100.0] * 12], slack=0.0)

    assert found.flat
    assert (found.second_quarter, found.last_quarter, found.slope_per_hour) == (100, 100, 0)


def test_a_saw_of_vacuum_is_flat_and_its_peak_is_told() -> None:
    found = trend(TIMES, [0.0, 100.0, 200.0, 300.0] * 4, slack=0.0)

    assert found.flat
    assert found.most == 300


def test_growth_within_the_slack_of_a_small_figure_is_flat() -> None:
    values = [1.0] * 8 + [2.0] * 8

    assert trend(TIMES, values, slack=1.0).flat
    assert not trend(TIMES, values, slack=0.5).flat


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_any_number_of_samples_has_a_trend_within_its_values(values: list[float]) -> None:
    found = trend([float(n) for n in range(len(values))], values, slack=0.0)

    low, high = round(min(values), 3), round(max(values), 3)
    assert low <= found.second_quarter <= high
    assert low <= found.last_quarter <= high


def test_histogram_between_two_looks_holds_what_came_between() -> None:
    looks = [{0.01: 1.0, 0.1: 1.0}, {0.01: 1.0, 0.1: 4.0}, {0.01: 3.0, 0.1: 6.0}]

    assert steps(looks) == [{0.01: 1, 0.1: 1}, {0.01: 0, 0.1: 3}, {0.01: 2, 0.1: 2}]
