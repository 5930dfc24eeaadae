"""Gateways are known by visiting the mails of many people at once."""

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracker.made import BROWSER, GMAIL, NOON, hit, minted
from tracker.hits import Kind
from tracker.judging import Mail, visits
from tracker.networks import NOWHERE
from tracker.ranges import MOST, PEOPLE, SHARE, SPAN, Ranges, Visit


def visit(at: float, contact: int, agent: str = "a", after: int = 43) -> Visit:
    when = NOON + timedelta(seconds=at)
    return Visit(when, minted(when), contact, agent, after)


people = st.lists(
    st.tuples(
        st.floats(0, 40).map(lambda at: round(at, 1)), st.integers(1, 9), st.sampled_from("aab"), st.integers(1, 3)
    ),
    max_size=40,
)


@given(people, st.randoms())
def test_a_sweep_is_five_people_alike_within_ten_seconds_and_most_of_the_range_in_whatever_order(
    drawn: list[tuple[float, int, str, int]], rng: random.Random
) -> None:
    all_ = sorted(visit(*one) for one in drawn)
    shuffled = rng.sample(all_, len(all_))

    expected = set()
    for start in all_:
        for first in (start.after - 1, start.after):
            alike = [v for v in all_ if v.agent == start.agent and v.after in (first, first + 1)]
            window = [v for v in alike if timedelta(0) <= v.at - start.at <= SPAN]
            # The longest that begins here: what lies before it is no nearer to its last.
            whole = [v for v in alike if timedelta(0) <= window[-1].at - v.at <= SPAN and v.at <= window[-1].at]
            meanwhile = [v for v in all_ if v.at <= whole[0].at + SPAN and v.at >= whole[-1].at - SPAN]
            if len({v.contact_id for v in whole}) >= PEOPLE and len(whole) >= SHARE * len(meanwhile):
                expected |= {v.event_id for v in whole}

    assert Ranges().sweeps(("r", one) for one in shuffled).found == expected


@pytest.mark.parametrize(
    ("others", "swept"),
    [
        ([], True),
        ([(5, "b", 43)], True),
        ([(5, "b", 43), (6, "a", 20)], False),
        ([(-6, "b", 43), (10, "a", 20)], False),
        ([(-7, "b", 43), (11, "a", 20)], True),
    ],
    ids=["alone", "one other in six", "two others in seven", "within ten seconds of each", "further away"],
)
def test_a_gateway_is_most_of_what_its_range_does(others: list[tuple[float, str, int]], swept: bool) -> None:
    five = [visit(n, n) for n in range(5)]
    beside = [visit(at, 10 + n, agent, after) for n, (at, agent, after) in enumerate(others)]

    found = Ranges().sweeps(("r", one) for one in [*five, *beside]).found

    assert found == ({one.event_id for one in five} if swept else set())


@pytest.mark.parametrize(("agents", "afters"), [("abbbb", [43] * 5), ("aaaaa", [43, 44, 45, 43, 44])])
def test_people_behind_one_address_have_programs_and_times_of_their_own(agents: str, afters: list[int]) -> None:
    five = [visit(n / 2, n, agent, after) for n, (agent, after) in enumerate(zip(agents, afters, strict=True))]

    assert Ranges().sweeps(("r", one) for one in five).found == set()


def test_what_came_before_is_remembered_and_ranges_are_not_mixed() -> None:
    ranges = Ranges()
    visits_ = [visit(n, n) for n in range(5)]

    assert ranges.sweeps(("a", one) for one in visits_[:3]).found == set()
    assert ranges.sweeps([("b", visits_[3])]).found == set()
    assert ranges.sweeps(("a", one) for one in visits_[2:]).found == {one.event_id for one in visits_}


def test_a_sweep_has_begun_with_two_people_who_come_alike() -> None:
    one, same, other, later = visit(0, 1), visit(1, 1), visit(2, 2), visit(13, 3)

    assert Ranges().sweeps([("r", one), ("r", same)]).begun == set()
    assert Ranges().sweeps([("r", same), ("r", other), ("r", later)]).begun == {same.event_id, other.event_id}


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


@pytest.mark.parametrize(
    ("agent", "at", "visited"),
    [(GMAIL, 5, False), (GMAIL, 61, False), (GMAIL, 62, True), (BROWSER, 5, True), ("Mozilla/5.0", 5, True)],
    ids=["her provider's proxy", "in one instant", "later", "the same program", "nobody knows who"],
)
def test_whose_picture_was_loaded_by_another_program_is_a_reader(agent: str, at: float, visited: bool) -> None:
    shown = hit(Kind.OPEN, at=at, agent=agent)

    assert bool([*visits([hit(at=60)], Mail(1, NOON, NOON, 0), 7, NOWHERE, [shown])]) == visited
