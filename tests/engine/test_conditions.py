"""Conditions on steps: what they mean, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.conditions import Answers, Condition, Term, chosen, parse_condition, require_reachable_steps
from mtad.base.errors import InputError

NOTHING = Answers()
OPENED = Answers(opened=True)
VEILED = Answers(opened=None)
CLICKED = Answers(opened=True, clicked=frozenset({2}))
CLICKED_BLIND = Answers(opened=False, clicked=frozenset({1}))  # without loading images
EVERYONE = {"nothing": NOTHING, "opened": OPENED, "veiled": VEILED, "link 2": CLICKED, "link 1": CLICKED_BLIND}


def condition(text: str) -> Condition:
    return parse_condition("step[1].if", text)


@pytest.mark.parametrize(
    ("text", "of"),
    [
        ("opened", {"opened", "link 2", "link 1"}),
        ("not opened", {"nothing"}),
        ("clicked", {"link 2", "link 1"}),
        ("not clicked", {"nothing", "opened", "veiled"}),
        ("opened, not clicked", {"opened"}),
        ("clicked link 2", {"link 2"}),
        (" clicked ,  not  clicked  link 2 ", {"link 1"}),
        ("opened, clicked", {"link 2", "link 1"}),
    ],
)
def test_condition_holds_where_we_could_have_heard(text: str, of: set[str]) -> None:
    read = condition(text)

    assert {name for name, answers in EVERYONE.items() if read.holds(answers)} == of
    assert not read.holds(None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is no condition"),
        ("open", "'open' is no condition"),
        ("opened,", "'' is no condition"),
        ("not", "'not' is no condition"),
        ("not not opened", "'not not opened' is no condition"),
        ("opened or clicked", "'opened or clicked' is no condition"),
        ("opened link 2", "'opened link 2' is no condition"),
        ("clicked link 0", "'clicked link 0' is no condition"),
        ("clicked link two", "'clicked link two' is no condition"),
        ("clicked\nlink 2\nx", "is no condition"),
        ("not opened, clicked", "'not opened, clicked' can never hold; who clicked has opened"),
        ("opened, not opened", "can never hold"),
        ("clicked link 1, not clicked", "can never hold"),
        ("opened, opened, opened, opened, opened, opened, opened", "at most 6 terms"),
    ],
)
def test_bad_text_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        condition(text)

    assert str(error.value).startswith("step[1].if: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


LESSON = [condition("opened, not clicked"), condition("not opened")]


def test_first_step_whose_condition_holds_is_sent() -> None:
    """The language course: price reminder → free lesson or follow-up."""
    assert chosen(LESSON, OPENED) == 0
    assert chosen(LESSON, NOTHING) == 1
    assert chosen(LESSON, CLICKED) is None
    assert chosen(LESSON, None) is None
    assert chosen([*LESSON, None], VEILED) == 2


def test_step_that_nobody_can_get_is_refused() -> None:
    require_reachable_steps("step", LESSON)
    require_reachable_steps("step", [*LESSON, None])

    with pytest.raises(InputError, match=r"step\[1\].if: is never sent"):
        require_reachable_steps("step", [condition("opened"), condition("clicked link 2")])
    with pytest.raises(InputError, match=r"step\[2\].if: is never sent"):
        require_reachable_steps("step", [condition("clicked"), condition("not clicked"), condition("not opened")])
    with pytest.raises(InputError, match="at most 6 links"):
        require_reachable_steps("step", [condition(f"clicked link {n}") for n in range(1, 8)])


def test_links_that_are_named_are_told() -> None:
    assert condition("clicked link 2, not clicked link 5, opened").links == {2, 5}


terms = st.builds(
    lambda what, link, holds: Term(what, link if what == "clicked" else None, holds),
    st.sampled_from(["opened", "clicked"]),
    st.none() | st.integers(1, 3),
    st.booleans(),
)
answers = st.builds(Answers, st.sampled_from([True, False, None]), st.frozensets(st.integers(1, 5)))


def text_of(term: Term) -> str:
    link = "" if term.link is None else f" link {term.link}"
    return f"{'' if term.holds else 'not '}{term.what}{link}"


@given(st.lists(terms, min_size=1, max_size=4), answers)
def test_text_is_read_as_it_is_written_and_what_is_refused_holds_for_nobody(made: list[Term], did: Answers) -> None:
    try:
        read = condition(", ".join(map(text_of, made)))
    except InputError:
        assert not Condition(tuple(made)).holds(did)
        return

    assert read.terms == tuple(made)


@given(terms, answers)
def test_never_both_a_term_and_its_contrary(term: Term, did: Answers) -> None:
    contrary = Term(term.what, term.link, holds=not term.holds)

    assert {term.true_of(did), contrary.true_of(did)} in ({True, False}, {None})
