"""Delays grow, spread, and stay within what was configured and asked for."""

from hypothesis import given
from hypothesis import strategies as st

from mtad.outcome.retry import delay_before_retry

attempts = st.integers(1, 10_000)
firsts = st.floats(1, 86_400)
luck = st.floats(0, 1, exclude_max=True)


@given(attempts, firsts, firsts, luck)
def test_a_delay_lies_between_half_and_all_of_first_doubled_up_to_the_ceiling(
    attempt: int, first: float, ceiling: float, luck: float
) -> None:
    whole = ceiling if attempt > 20 else min(ceiling, first * 2 ** (attempt - 1))

    delay = delay_before_retry(attempt, first=first, ceiling=ceiling, luck=luck)

    assert whole / 2 <= delay <= whole


@given(attempts, firsts, luck)
def test_a_later_attempt_never_waits_less_with_the_same_luck(attempt: int, first: float, luck: float) -> None:
    one = delay_before_retry(attempt, first=first, ceiling=21_600, luck=luck)
    two = delay_before_retry(attempt + 1, first=first, ceiling=21_600, luck=luck)

    assert one <= two


@given(attempts, luck, st.floats(60, 21_600))
def test_no_attempt_comes_earlier_than_the_server_asked(attempt: int, luck: float, after: float) -> None:
    usual = delay_before_retry(attempt, first=1200, ceiling=21_600, luck=luck)

    delay = delay_before_retry(attempt, first=1200, ceiling=21_600, luck=luck, after=after)

    assert max(usual, after) <= delay <= max(usual, after * 1.25)


@given(attempts, st.floats(1, 10), st.floats(0, 1), luck)
def test_a_delay_grows_by_its_factor_and_loses_no_more_than_its_jitter(
    attempt: int, factor: float, jitter: float, luck: float
) -> None:
    delay = delay_before_retry(attempt, first=60, ceiling=3600, luck=luck, factor=factor, jitter=jitter)
    whole = 3600 if attempt > 500 and factor > 1.1 else min(3600, 60 * factor ** min(attempt - 1, 300))

    assert delay <= 3600
    assert delay <= whole or attempt > 300
    assert delay >= min(whole, 60) * (1 - jitter)


def test_without_jitter_the_delays_are_those_of_the_book() -> None:
    delays = [delay_before_retry(n, first=60, ceiling=600, luck=0.3, factor=1.5, jitter=0) for n in range(1, 8)]

    assert delays == [60, 90, 135, 202.5, 303.75, 455.625, 600]


def test_mails_that_failed_together_do_not_come_back_together() -> None:
    delays = {delay_before_retry(1, first=1200, ceiling=21_600, luck=n / 100) for n in range(100)}

    assert len(delays) == 100
