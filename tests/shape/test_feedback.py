"""How many sessions a lane may ask for."""

from hypothesis import given
from hypothesis import strategies as st

from mtad.shape.feedback import INITIAL, Concurrency

limits = st.integers(1, 200)
histories = st.lists(st.booleans(), max_size=300)


def after(limit: int, history: list[bool]) -> Concurrency:
    concurrency = Concurrency(limit)
    for success in history:
        tell(concurrency, success=success)
    return concurrency


def tell(concurrency: Concurrency, *, success: bool) -> None:
    if success:
        concurrency.succeeded(concurrency.falls)
    else:
        concurrency.troubled(concurrency.falls)


@given(limits, histories)
def test_there_is_always_a_session_and_never_more_than_the_limit(limit: int, history: list[bool]) -> None:
    concurrency = Concurrency(limit)
    for success in history:
        assert 1 <= concurrency.allowed <= limit
        before = concurrency.allowed
        tell(concurrency, success=success)
        assert concurrency.allowed >= before if success else concurrency.allowed <= before
    assert 1 <= concurrency.allowed <= limit


@given(limits)
def test_without_trouble_it_doubles_with_each_round_up_to_the_limit(limit: int) -> None:
    concurrency = Concurrency(limit)
    wanted = min(INITIAL, limit)
    while wanted < limit:
        assert concurrency.allowed == wanted
        for _ in range(wanted):
            concurrency.succeeded(0)
        wanted = min(2 * wanted, limit)

    assert concurrency.allowed == limit


@given(limits, histories)
def test_one_trouble_that_all_sessions_report_halves_once(limit: int, history: list[bool]) -> None:
    concurrency = after(limit, history)
    running, since = concurrency.allowed, concurrency.falls

    for _ in range(running):
        concurrency.troubled(since)
    for _ in range(running):
        concurrency.succeeded(since)

    assert concurrency.allowed == max(1, running // 2)


def test_after_trouble_it_grows_by_one_with_each_round() -> None:
    concurrency = after(100, [True] * 100)
    concurrency.troubled(0)
    assert concurrency.allowed == 50

    grown = []
    for _ in range(3):
        for _ in range(concurrency.allowed + 1):
            concurrency.succeeded(1)
        grown.append(concurrency.allowed)

    assert grown == [51, 52, 53]


@given(limits, histories)
def test_trouble_without_end_leaves_one_session(limit: int, history: list[bool]) -> None:
    concurrency = after(limit, history)

    for _ in range(10 * limit):
        concurrency.troubled(concurrency.falls)

    assert concurrency.allowed == 1
