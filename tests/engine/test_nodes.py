"""Steps with conditions: the way they make, whom each is sent to, and what is refused."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.conditions import Answers, chosen, parse_condition
from engine.programs import Definition, Stop, chosen_stop, first_cycle, links_asked, mails_of, next_stop, parse_program
from mtad.base.errors import InputError

DAY = 86400.0
COURSE = """
name = "course"
kind = "series"
stream = "school"
leave_on = []
[[step]]
message = "price"
[[step]]
wait = "3d"
if = "opened, not clicked"
message = "lesson"
[[step]]
if = "not opened"
message = "follow"
[[step]]
wait = "4d"
message = "last"
"""
NOTHING, OPENED, CLICKED = Answers(), Answers(True), Answers(True, frozenset({2}))


def parsed(text: str) -> Definition:
    return parse_program(tomllib.loads(text), day=DAY, window=3 * DAY)


def test_a_group_is_chosen_from_after_its_wait_and_goes_on_together() -> None:
    course = parsed(COURSE)

    assert mails_of(course) == ["price", "lesson", "follow", "last"]
    assert next_stop(course, "price") == Stop("choose lesson", 3 * DAY, ends=False)
    assert chosen_stop(course, "choose lesson", "price", OPENED) == Stop("lesson", 0.0, ends=False)
    assert chosen_stop(course, "choose lesson", "price", NOTHING) == Stop("follow", 0.0, ends=False)
    for last, answers in (("price", CLICKED), ("price", None), ("another", OPENED), (None, None)):
        assert chosen_stop(course, "choose lesson", last, answers) == Stop("last", 4 * DAY, ends=False)
    assert next_stop(course, "lesson") == next_stop(course, "follow") == Stop("last", 4 * DAY, ends=False)
    assert next_stop(course, "last") == Stop("end", 3 * DAY, ends=True)
    assert Definition.from_json(course.to_json()) == course


def test_a_step_without_a_condition_takes_who_is_left() -> None:
    course = parsed(COURSE.replace('if = "not opened"\n', ""))

    for answers in (NOTHING, CLICKED, None):
        assert chosen_stop(course, "choose lesson", "price", answers).node == "follow"


def test_a_condition_is_about_every_mail_that_may_be_the_last() -> None:
    course = parsed(COURSE.replace('wait = "4d"', 'wait = "4d"\nif = "clicked link 2"'))

    asked = {key: (condition.links, about) for key, condition, about in links_asked(course.nodes)}
    assert asked == {
        "lesson": (frozenset(), ("price",)),
        "follow": (frozenset(), ("price",)),
        "last": (frozenset({2}), ("price", "lesson", "follow")),
    }
    assert chosen_stop(course, "choose last", "lesson", NOTHING) == Stop("end", 3 * DAY, ends=True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('message = "price"', 'message = "price"\nif = "opened"', "step[0].if: there is no mail before the first"),
        ('"not opened"', '"not read"', "step[2].if: 'not read' is no condition"),
        ('"opened, not clicked"', '"not clicked"\n#', "step[2].if: is never sent, for the steps before it take every"),
        ('wait = "4d"', "", "step[3].if: is never sent"),
        ('if = "opened, not clicked"\n', "", "step[2].wait: is missing"),
        ("leave_on = []", 'leave_on = ["open"]', "step lesson: if: is never sent, for leave_on has open"),
        ("leave_on = []", 'then = "course"\nholdout = 1.0', "holdout: a share from 0 to below 1, is 1"),
        ('wait = "4d"', 'wait = "4d"\nnot_after_wait = "0s"', "step[3].not_after_wait: must be above 0"),
        ("leave_on = []", 'max_rate = "0/h"', "max_rate: '0/h' is not a rate"),
        ("leave_on = []", 'yearly = { on = "birthday", at = "9 Uhr" }', "yearly.at: '9 Uhr' is not a time of day"),
        ("leave_on = []", 'enrol = "current"\nyearly = { on = "birthday" }', "enrol: a yearly program takes people"),
        ('"series"', '"reactivation"', "leave_on: a reactivation has none"),
        ("leave_on = []", "", ""),
    ],
)
def test_what_is_wrong_is_said_in_one_line(old: str, new: str, says: str) -> None:
    assert old in COURSE
    text = COURSE.replace(old, new, 1)
    if says.startswith("step[3].if"):
        text = text.replace('message = "last"', 'if = "opened, not clicked"\nmessage = "last"')
    if not says:
        assert parsed(text).leave_on == ("engaged",)
        return

    with pytest.raises(InputError) as error:
        parsed(text)

    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_reactivation_waits_four_days_unless_it_says_otherwise_and_stays_open() -> None:
    steps: list[dict[str, Any]] = [{"message": "one"}, {"message": "two"}, {"message": "three", "wait": "5d"}]
    raw = {"name": "winback", "kind": "reactivation", "stream": "s", "step": steps}

    winback = parse_program(raw, day=DAY, window=3 * DAY)

    assert [next_stop(winback, node).wait / DAY for node in mails_of(winback)] == [4, 5, 3]
    assert (winback.enrol, winback.leave_on, winback.when_silent) == ("current_and_future", (), "nothing")
    with pytest.raises(InputError, match=r"the wait after one is 4d, shorter than the stream's window of 4\.5d"):
        parse_program(raw, day=DAY, window=4.5 * DAY)


def test_cycles_are_found_however_long() -> None:
    line = {"a": ["b", "c"], "b": ["c"], "c": ["d"], "d": []}

    assert first_cycle("a", line) == []
    assert first_cycle("a", line | {"d": ["a"]}) == ["a", "b", "c", "d", "a"]
    assert first_cycle("a", line | {"d": ["b"]}) == []  # found where b, c or d is applied
    assert first_cycle("a", {"a": ["a"]}) == ["a", "a"]


texts = st.sampled_from(["opened", "not opened", "clicked", "not clicked", "opened, not clicked", "clicked link 2"])
did = st.none() | st.builds(Answers, st.sampled_from([True, False, None]), st.frozensets(st.integers(1, 3)))


@given(st.lists(st.lists(texts, min_size=1, max_size=3), min_size=1, max_size=4), st.lists(did, min_size=8, max_size=8))
def test_everybody_gets_of_each_group_the_step_that_conditions_choose_and_reaches_the_end(
    groups: list[list[str]], answers: list[Answers | None]
) -> None:
    steps: list[dict[str, Any]] = [{"message": "first"}]
    for number, group in enumerate(groups):
        steps += [
            {"message": f"m{number}-{at}", "if": text} | ({} if at else {"wait": "3d"}) for at, text in enumerate(group)
        ]
    raw = {"name": "x", "kind": "series", "stream": "s", "leave_on": [], "step": steps}
    try:
        program = parse_program(raw, day=DAY, window=3 * DAY)
    except InputError:  # a step that nobody can get
        return
    expected, got, last = ["first"], ["first"], 0
    for number, group in enumerate(groups):
        at = chosen([parse_condition("if", text) for text in group], answers[last])
        if at is not None:
            expected.append(f"m{number}-{at}")
            last += 1

    stop, choices = next_stop(program, "first"), 0
    while not stop.ends:
        choices += 1
        stop = chosen_stop(program, stop.node, got[-1], answers[len(got) - 1])
        if not stop.wait:
            got.append(stop.node)
            stop = next_stop(program, stop.node)

    assert got == expected
    assert choices == len(groups)
