"""The sink's books and the ledger's: whatever does not agree is named."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.lab.accounts import Ended, compare


def test_one_copy_for_each_delivery_agrees() -> None:
    books = compare(Counter({1: 1, 2: 1}), [Ended(1, "delivered", 0), Ended(2, "delivered", 0)])

    assert (books.copies, books.delivered, books.duplicates, books.disagreements) == (2, 2, 0, [])


def test_a_second_copy_agrees_only_where_it_is_marked_in_doubt() -> None:
    marked = compare(Counter({1: 2}), [Ended(1, "delivered", 1)])
    unmarked = compare(Counter({1: 2}), [Ended(1, "delivered", 0)])

    assert (marked.duplicates, marked.disagreements) == (1, [])
    assert unmarked.disagreements == ["1 more copies than the marks of doubt explain: job 1"]


def test_a_copy_in_doubt_that_was_never_known_as_delivered_is_counted_apart() -> None:
    books = compare(Counter({1: 1}), [Ended(1, "skipped", 1)])

    assert (books.unknown, books.disagreements) == (1, [])


def test_a_doubt_that_never_arrived_is_no_disagreement() -> None:
    assert compare(Counter(), [Ended(1, "in_doubt", 1)]).disagreements == []


@pytest.mark.parametrize(
    ("copies", "ledger", "what"),
    [
        ({}, [Ended(1, "delivered", 0)], "no copy arrived"),
        ({9: 1}, [], "the ledger knows no delivery"),
        ({1: 2}, [Ended(1, "bounced", 1)], "marks of doubt"),
    ],
)
def test_a_hole_in_either_book_is_named(copies: dict[int, int], ledger: list[Ended], what: str) -> None:
    (told,) = compare(Counter(copies), ledger).disagreements

    assert what in told


rows = st.lists(
    st.builds(Ended, st.integers(1, 9), st.sampled_from(["delivered", "skipped"]), st.integers(0, 2)),
    unique_by=lambda row: row.job_id,
)


@given(st.dictionaries(st.integers(1, 9), st.integers(1, 3)), rows)
def test_books_without_disagreement_add_up(copies: dict[int, int], ledger: list[Ended]) -> None:
    books = compare(Counter(copies), ledger)

    if not books.disagreements:
        assert books.copies == books.delivered + books.duplicates + books.unknown
