"""The simulation: the same people for every rule, the same numbers for the same seed."""

import msgspec
import pytest

from engine.life import WAITS, Life
from engine.people import BEHAVIOURS, MOST_HOURS, Person, person
from engine.rules import Policy
from engine.simulation import COMPARED, Outcome, Rule, brake_at, in_days, simulate, summed
from engine.slots import Cap, Slots
from engine.states import State

DAYS = 182
WEEKS = 26
OURS = Rule("windows, 5 attempts", Policy())


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return simulate((*COMPARED, OURS), range(300), days=DAYS, every=7, seed=1)


def cap(window: float) -> Cap:
    return Cap(2, window, "two")


def dead(*, veiled: bool) -> Person:
    found = (person(number, 1, 400) for number in range(100))
    return next(one for one in found if one.behaviour.reads == 0 and one.veiled == veiled)


def test_numbers_of_a_seed_stay(outcomes: list[Outcome]) -> None:
    assert [(one.rule, one.mails, one.reads, one.living_paused) for one in outcomes] == [
        ("everybody", 7800, 1657, 0),
        ("every mail counts, 3 in a row", 3716, 1078, 174),
        ("HubSpot's 11 and 16", 5366, 1454, 89),
        ("windows, 5 attempts", 5932, 1540, 88),
    ]
    assert {one.living for one in outcomes} == {186}


def test_crowds_add_up_to_one(outcomes: list[Outcome]) -> None:
    parts = [simulate((*COMPARED, OURS), crowd, days=DAYS, every=7, seed=1) for crowd in (range(100), range(100, 300))]

    assert summed(parts) == outcomes


def test_everybody_is_in_one_state_before_each_mail(outcomes: list[Outcome]) -> None:
    for one in outcomes[1:]:
        assert {sum(counts.values()) for counts in one.states} == {300}
        assert one.states[0] == {"new": 300}


def test_somebody_is_the_same_under_every_rule() -> None:
    assert person(7, 1, DAYS) == person(7, 1, DAYS)
    readers = [one for one in (person(number, 1, DAYS) for number in range(50)) if one.alive]
    assert len(set(readers)) == len(readers)
    assert sum(behaviour.share for behaviour in BEHAVIOURS) == pytest.approx(1)


def test_answers_come_before_the_window_of_a_week_is_over() -> None:
    hours = [answer.hours for number in range(50) for answer in person(number, 1, DAYS).answers if answer]

    assert 0 < min(hours) < max(hours) <= MOST_HOURS


def test_mail_to_everybody_leaves_nobody_out() -> None:
    (outcome,) = simulate([], range(40), days=DAYS, every=7, seed=3)

    assert (outcome.mails, outcome.living_paused, outcome.mailed) == (40 * WEEKS, 0, (40,) * WEEKS)


def test_who_never_reads_gets_five_attempts_and_two_reactivations_and_then_rests() -> None:
    course = Life(dead(veiled=False), OURS).live(364, 7)

    # The fifth window closes before the sixth mail; the cool-downs are over within the year.
    assert course.mailed == [0, 1, 2, 3, 4]
    assert (course.mails, course.reads, len(course.paused_on)) == (5 + 2 * len(WAITS), 0, 1)
    assert course.states[-1] == State.RESTING


def test_caps_and_sending_days_hold_mail_as_in_delivery() -> None:
    capped = Policy(slots=Slots(caps=(cap(10 * 86400.0),)))
    wednesdays = Policy(slots=Slots(days=frozenset({2})))
    reader = next(one for one in (person(n, 1, 100) for n in range(100)) if one.behaviour.name == "regular")

    # Two in ten days, of a mail every second day: those of days 4, 6 and 8 go on day 10, as far as the cap lets them.
    assert Life(reader, Rule("capped", capped)).live(10, 2).mails == 2
    assert Life(reader, OURS).live(10, 2).mails == 5
    # It begins on a Monday.
    assert Life(reader, Rule("wednesdays", wednesdays)).live(1, 7).mails == 0
    assert Life(reader, Rule("wednesdays", wednesdays)).live(2, 7).mails == 1


def test_rules_that_count_mails_pause_after_so_many() -> None:
    literal, hubspot = COMPARED

    assert Life(dead(veiled=True), hubspot).live(364, 7).mails == 11
    assert Life(dead(veiled=True), literal).live(21, 7).mails == 3
    assert Life(dead(veiled=True), literal).live(364, 7).mails == 3 + 2 * len(WAITS)


def test_windows_keep_more_readers_than_counting_every_mail(outcomes: list[Outcome]) -> None:
    _, literal, _, ours = outcomes

    assert ours.reads > 1.25 * literal.reads
    assert ours.living_paused < 0.6 * literal.living_paused


def test_the_brake_would_stop_the_day_on_which_all_who_began_together_are_given_up(outcomes: list[Outcome]) -> None:
    assert brake_at(outcomes[-1], Policy(), 7) is None  # fewer than 100
    many = msgspec.structs.replace(outcomes[-1], paused=(0, 101), mailed=(300,) * WEEKS)
    assert brake_at(many, Policy(), 7) == (1, 101)


def test_a_demo_policy_is_simulated_in_real_days() -> None:
    seconds = Policy(day=1.0, window=3.0, cool_downs=(30.0, 90.0), slots=Slots(caps=(cap(7.0),)))

    assert in_days(seconds) == Policy(slots=Slots(caps=(cap(7 * 86400.0),)))
