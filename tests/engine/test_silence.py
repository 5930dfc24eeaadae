"""When silence is not believed: the brake, and a provider of which we hear too little."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rules import Brake
from engine.silence import Finding, Signs, findings, heard_until, may_pause, unheard

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
WEEK = timedelta(days=7)

# What was heard of the mail of two weeks, and what is usual of it: a fifth, a tenth, a half.
USUAL = {"gmail": (5000, 1000), "gmx": (5000, 500), "tiny": (10, 5)}


def signs(*lately: dict[str, tuple[int, int]]) -> dict[str, list[Signs]]:
    """By provider; further weeks, each with mails and answers."""
    weeks = [USUAL, USUAL, *lately]
    return {
        provider: [Signs(MONDAY + n * WEEK, *week[provider]) for n, week in enumerate(weeks) if provider in week]
        for provider in sorted({name for week in weeks for name in week})
    }


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
    heard = signs({"gmail": (1000, 66), "gmx": (1000, 100)})

    assert findings(heard, {}) == {
        "gmail": Finding(
            MONDAY + 2 * WEEK,
            "of 1,000 mails to gmail that were looked at 66 were answered soon, where 200 would be usual;"
            " its silence is not believed until more is heard",
        )
    }


@pytest.mark.parametrize(
    "lately",
    [
        {},
        {"gmail": (99, 0), "gmx": (1000, 100)},  # 19.8 expected
        {"gmail": (1000, 67), "gmx": (1000, 100)},
        {"gmail": (1000, 27), "gmx": (1000, 40)},  # dull mail: of 80 a third
        {"gmail": (1000, 0), "gmx": (1000, 0)},  # nobody: see below
        {"gmail": (1000, 0)},  # nothing to compare it with
        {"tiny": (29, 0), "gmx": (1000, 100)},
        {"new": (10_000, 0), "gmx": (1000, 100)},
        {"gmail": (0, 0), "gmx": (1000, 100)},
    ],
)
def test_too_little_to_judge_holds_nobody(lately: dict[str, tuple[int, int]]) -> None:
    assert findings(signs(lately), {}) == {}


@pytest.mark.parametrize(
    ("lately", "since"),
    [
        ([], None),
        ([{"gmail": (1000, 0), "gmx": (1000, 0)}], 2),
        ([{"gmail": (60, 0), "gmx": (80, 0)}], 2),  # together 20 expected
        ([{"gmail": (60, 0), "gmx": (79, 0)}], None),
        ([{"gmail": (60, 0)}, {"gmx": (100, 0)}], 2),  # in two weeks
        ([{"gmail": (1000, 0)}], 2),  # one alone
        ([{"gmail": (1000, 0), "gmx": (1000, 1)}], None),
        ([{"gmail": (1000, 0), "gmx": (1000, 0)}, {"tiny": (10, 1)}], None),  # heard again
        ([{"new": (10_000, 0)}], None),  # of whom nothing is known
    ],
)
def test_nothing_heard_of_anybody_is_not_believed(lately: list[dict[str, tuple[int, int]]], since: int | None) -> None:
    found = unheard(signs(*lately))

    assert (found and found.since) == (None if since is None else MONDAY + since * WEEK)


@pytest.mark.parametrize(
    ("later", "held"),
    [
        ([], True),
        ([{"gmail": (1000, 0), "gmx": (1000, 100)}] * 9, True),  # what is held is not usual
        ([{"gmail": (90, 18), "gmx": (1000, 100)}], True),  # too few to believe them
        ([{"gmail": (1000, 180), "gmx": (1000, 100)}], False),
        ([{"gmail": (90, 18), "gmx": (200, 20)}] * 2, False),  # together they tell
    ],
)
def test_who_is_held_stays_so_until_signs_return(later: list[dict[str, tuple[int, int]]], held: bool) -> None:
    since = MONDAY + 2 * WEEK
    heard = signs({"gmail": (1000, 10), "gmx": (1000, 100)}, *later)

    assert [one.since for one in findings(heard, {"gmail": since}).values()] == [since] * held
    assert findings({}, {"gmail": since}) == {}  # forgotten


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
        (3, [(1, 2), (1, 1.5), (1.5, 2.5)], 1.5),  # together a day and a half
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
