"""The simulation: the same people for every rule, the same numbers for the same seed."""

import pytest

from engine.people import BEHAVIOURS, MOST_HOURS, person
from engine.rules import Policy
from engine.simulation import EVERYBODY, RULES, WAITS, Life, Rule, main, simulate, table

DAYS = 182
WEEKS = 26
OURS = Rule("windows, 5 attempts", Policy())


def test_numbers_of_a_seed_stay() -> None:
    outcomes = simulate((*RULES, OURS), contacts=300, days=DAYS, seed=1)

    assert [(one.rule, one.mails, one.reads, round(one.living_paused, 2)) for one in outcomes] == [
        ("everybody", 7800, 1657, 0.0),
        ("every mail counts, 3 in a row", 3716, 1078, 0.94),
        ("HubSpot's 11 and 16", 5366, 1454, 0.48),
        ("windows, 5 attempts", 5932, 1540, 0.47),
    ]


def test_somebody_is_the_same_under_every_rule() -> None:
    assert person(7, 1, DAYS) == person(7, 1, DAYS)
    readers = [one for one in (person(number, 1, DAYS) for number in range(50)) if one.alive]
    assert len(set(readers)) == len(readers)
    assert sum(behaviour.share for behaviour in BEHAVIOURS) == pytest.approx(1)


def test_answers_come_before_the_window_of_a_week_is_over() -> None:
    hours = [answer.hours for number in range(50) for answer in person(number, 1, DAYS).answers if answer]

    assert 0 < min(hours) < max(hours) <= MOST_HOURS


def test_mail_to_everybody_leaves_nobody_out() -> None:
    (outcome,) = simulate([EVERYBODY], contacts=40, days=DAYS, seed=3)

    assert (outcome.mails, outcome.living_paused, outcome.mailed) == (40 * WEEKS, 0.0, (40,) * WEEKS)


def test_who_never_reads_gets_five_attempts_and_two_reactivations_and_then_rests() -> None:
    dead = next(one for one in (person(n, 1, 400) for n in range(100)) if one.behaviour.reads == 0 and not one.veiled)

    course = Life(dead, OURS).live(364)

    # The fifth window closes before the sixth mail; the cool-downs are over within the year.
    assert course.mailed_on == [0, 7, 14, 21, 28]
    assert (course.mails, course.reads, course.paused) == (5 + 2 * len(WAITS), 0, 1)


def test_rules_that_count_mails_pause_after_so_many() -> None:
    dead = next(one for one in (person(n, 1, 400) for n in range(100)) if one.behaviour.reads == 0)
    _, literal, hubspot = RULES

    assert Life(dead, hubspot).live(364).mails == 11
    assert Life(dead, literal).live(21).mails == 3
    assert Life(dead, literal).live(364).mails == 3 + 2 * len(WAITS)


def test_windows_keep_more_readers_than_counting_every_mail() -> None:
    _, literal, _, ours = simulate((*RULES, OURS), contacts=300, days=DAYS, seed=1)

    assert ours.reads > 1.25 * literal.reads
    assert ours.living_paused < 0.6 * literal.living_paused


def test_table_is_printed_by_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--contacts", "20", "--days", "56", "--seed", "2"])

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 5
    assert lines[2].startswith("| everybody | 160 | 100% | 100% | 0% | ████████ |")
    assert lines[2:5] == list(table(simulate(RULES, contacts=20, days=56, seed=2)))[2:]
