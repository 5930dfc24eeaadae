"""Turns by weight."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mtad.source.rotation import Rotation

NAMES = "abcde"
weights = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 20), min_size=1)
rounds = st.lists(st.sets(st.sampled_from(NAMES)), max_size=60)


@given(weights, st.integers(1, 5))
def test_in_every_round_each_has_exactly_its_weight(shares: dict[str, int], rounds: int) -> None:
    rotation = Rotation(shares)
    turns = [rotation.turn(shares) for _ in range(sum(shares.values()) * rounds)]

    assert Counter(turns) == {name: weight * rounds for name, weight in shares.items()}


@given(weights, st.integers(1, 100))
def test_at_any_moment_nobody_is_far_from_his_share(shares: dict[str, int], number: int) -> None:
    rotation = Rotation(shares)
    turns = Counter(rotation.turn(shares) for _ in range(number))

    for name, weight in shares.items():
        assert abs(turns[name] - number * weight / sum(shares.values())) < len(shares)


@given(weights, rounds)
def test_only_who_is_eligible_has_a_turn(shares: dict[str, int], moments: list[set[str]]) -> None:
    rotation = Rotation(shares)

    for eligible in moments:
        assert (rotation.turn(eligible) or "nobody") in (eligible & shares.keys() or {"nobody"})


@given(weights, st.integers(1, 200))
def test_who_was_away_gets_no_more_than_his_share_when_he_is_back(shares: dict[str, int], absent: int) -> None:
    rotation = Rotation(shares)
    away = min(shares)
    for _ in range(absent):
        rotation.turn(shares.keys() - {away})

    number = sum(shares.values())
    turns = Counter(rotation.turn(shares) for _ in range(number))

    assert abs(turns[away] - shares[away]) < len(shares)
