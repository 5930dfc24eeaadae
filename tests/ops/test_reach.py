"""What it means that a tracking address answers, or does not."""

from datetime import UTC, datetime, timedelta

import pytest

from mtad.ops.reach import Reach, Span, after, trouble

NOW = datetime(2026, 11, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
URL = "http://127.0.0.1"


def story(*answers: str, noticed: bool = False) -> tuple[Reach, list[Span]]:
    """The probe comes round every minute; '' is an answer."""
    reach: Reach | None = None
    spans = []
    for n, wrong in enumerate(answers):
        reach, span = after(reach, URL, NOW + n * MINUTE, wrong, noticed=noticed)
        spans += [span] if span else []
    assert reach
    return reach, spans


@pytest.mark.parametrize(
    ("answers", "failures", "good", "spans"),
    [
        (["", ""], 0, 1, []),
        (["", "x"], 1, 0, []),
        (["", "x", ""], 0, 2, []),  # a blip
        (["", "x", "x"], 2, 0, []),
        (["", "", "x", "x", "", "x"], 1, 4, [(1, 4)]),
        (["x", "x", "x"], 3, 0, []),
        (["x", "x", "", ""], 0, 3, [(0, 2)]),
    ],
)
def test_two_failures_are_an_outage_from_the_last_answer_to_the_next(
    answers: list[str], failures: int, good: int, spans: list[tuple[int, int]]
) -> None:
    reach, found = story(*answers)

    assert (reach.failures, reach.good, reach.holds) == (failures, NOW + good * MINUTE, failures > 0)
    assert found == [Span(NOW + since * MINUTE, NOW + until * MINUTE) for since, until in spans]
    assert bool(trouble(reach)) == (failures > 1)


def test_one_that_never_answered_does_not_count_once_somebody_came_through() -> None:
    reach, spans = story("x", "x", "x", noticed=True)

    assert (reach.failures, reach.holds, spans) == (3, False, [])
    assert "would go unnoticed" in trouble(reach)
    assert story("x", "x", "", noticed=True)[1] == []
    assert story("", "x", "x", noticed=True)[0].holds  # it did answer


def test_what_was_out_of_reach_by_an_address_that_is_given_up_is_over() -> None:
    reach, _ = story("", "x", "x")

    assert after(reach, "http://localhost", NOW + 9 * MINUTE, "", noticed=False) == (
        Reach("http://localhost", NOW + 9 * MINUTE, answered=True, asked=NOW + 9 * MINUTE),
        Span(NOW, NOW + 9 * MINUTE),
    )


def test_clock_that_was_put_back_makes_no_span() -> None:
    reach, _ = story("", "x", "x")

    assert after(reach, URL, NOW - MINUTE, "", noticed=False) == (Reach(URL, NOW - MINUTE, True, NOW - MINUTE), None)
