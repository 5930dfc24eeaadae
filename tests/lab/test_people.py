"""The demo's crowd is the same every time and holds what the story needs."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from mtad.base.address import parse_address
from mtad.lab.people import BAD_ROWS, DOMAINS, VIEWER, crowd
from mtad.lab.recipients import Character, character_of
from mtad.lab.sink import behaviour_of


def is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


@given(st.integers(200, 400), st.integers(0, 5))
def test_good_rows_are_addresses_of_their_own_and_bad_rows_are_none(count: int, seed: int) -> None:
    people = crowd(count, seed)
    rows = list(csv.DictReader(io.StringIO(people.contacts_csv)))
    good = [row["email"] for row in rows if is_address(row["email"])]

    assert len(rows) == count + len(BAD_ROWS) + 1
    assert sorted(good) == sorted((*people.addresses, VIEWER))
    assert len(set(good)) == count + 1


def test_the_viewer_is_the_one_after_the_last() -> None:
    rows = list(csv.DictReader(io.StringIO(crowd(200, 1).contacts_csv)))

    assert rows[-1]["email"] == VIEWER


def test_the_same_seed_makes_the_same_people() -> None:
    assert crowd(300, 7) == crowd(300, 7)
    assert crowd(300, 7) != crowd(300, 8)


def test_two_hundred_are_enough_for_every_character_and_treatment() -> None:
    people = crowd(200, 1)

    assert {character_of(address, 1) for address in people.addresses} == set(Character)
    assert any(behaviour_of(address, 1).at_rcpt.startswith("550") for address in people.addresses)
    assert {address.partition("@")[2] for address in people.addresses} == set(DOMAINS)


def test_the_suppressed_are_among_the_good_rows_and_the_viewer_is_not() -> None:
    people = crowd(200, 1)

    assert people.suppressed
    assert people.suppressed <= set(people.addresses)
