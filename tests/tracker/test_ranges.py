"""Gateways are known by visiting the mails of many people at once."""

import random
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.tracker.made import NOON, hit, minted
from tracker.judging import Mail, visits
from tracker.networks import NOWHERE
from tracker.ranges import MOST, PEOPLE, SPAN, Ranges, Visit


def visit(at: float, contact: int) -> Visit:
    when = NOON + timedelta(seconds=at)
    return Visit(when, minted(when), contact)


people = st.lists(st.tuples(st.floats(0, 40).map(lambda at: round(at, 1)), st.integers(1, 9)), max_size=30)


@given(people, st.randoms())
def test_a_sweep_is_five_people_within_ten_seconds_in_whatever_order(
    drawn: list[tuple[float, int]], rng: random.Random
) -> None:
    all_ = [visit(*one) for one in drawn]
    shuffled = rng.sample(all_, len(all_))

    expected = {
        one.event_id
        for one in all_
        for start in all_
        if one in (window := [v for v in all_ if timedelta(0) <= v.at - start.at <= SPAN])
        and len({v.contact_id for v in window}) >= PEOPLE
    }

    assert Ranges().sweeps(("r", one) for one in shuffled) == expected


def test_what_came_before_is_remembered_and_ranges_are_not_mixed() -> None:
    ranges = Ranges()
    visits_ = [visit(n, n) for n in range(5)]

    assert ranges.sweeps(("a", one) for one in visits_[:3]) == set()
    assert ranges.sweeps([("b", visits_[3])]) == set()
    assert ranges.sweeps(("a", one) for one in visits_[3:]) == {one.event_id for one in visits_}


def test_a_flood_does_not_fill_the_memory() -> None:
    ranges = Ranges()
    for n in range(MOST // 1000 + 5):
        ranges.sweeps((f"r{n}", visit(100 * n + k / 1000, 1)) for k in range(1000))

    assert sum(map(len, ranges._visits.values())) <= MOST


def test_only_clicks_within_two_minutes_of_the_250_are_visits() -> None:
    mail = Mail(1, NOON, NOON, 0)
    hits = [hit(at=at) for at in (-1, 5, 119, 121)]

    assert [v.at for _, v in visits(hits, mail, 7, NOWHERE)] == [hits[1].at, hits[2].at]
    assert list(visits(hits, Mail(1, NOON, NOON, 1), 7, NOWHERE)) == []
