"""Replies are judged as an experienced postmaster would, and never to the harm of a person."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.automation import Category, Meaning, Reply
from mtad.outcome.classify import LEAST_AFTER, MOST_AFTER, Classifier, action_of, classify, seconds_asked_for
from mtad.outcome.kinds import Action, Bounced, Deferred, Delivered, InDoubt, Scope
from mtad.outcome.texts import DETAILS, READINGS, SUBJECTS, TEXTS
from mtad.smtp.results import Accepted, Lost, Refused, Stage, TooLate

HOST = "mx.example [192.0.2.25]:25"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
BEFORE_RCPT = [Stage.BANNER, Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.RSET, Stage.MAIL]


class Line(msgspec.Struct, frozen=True):
    """A reply as a server of this provider gives it, in our own words, and what it means."""

    provider: str
    refused: Refused
    category: str
    scope: Scope
    action: Action
    after: float | None


def table() -> list[Line]:
    with (Path(__file__).parent / "replies.csv").open(newline="") as file:
        return [line_of(row) for row in csv.DictReader(file)]


def line_of(row: dict[str, str]) -> Line:
    whole = " ".join(filter(None, (row["code"], row["enhanced"], row["text"])))
    refused = Refused(Stage[row["stage"]], int(row["code"]), row["enhanced"], whole, HOST)
    after = float(row["after"]) if row["after"] else None
    return Line(row["provider"], refused, row["category"], Scope(row["scope"]), Action(row["action"]), after)


@pytest.mark.parametrize("line", table(), ids=lambda line: f"{line.provider}: {line.refused.text}")
def test_replies_of_real_servers_mean_what_they_mean(line: Line) -> None:
    outcome = classify(line.refused)

    if line.action in (Action.RETRY, Action.SLOW):
        assert outcome == Deferred(line.scope, line.category, line.refused.text, line.after)
    else:
        suppress = line.action is Action.SUPPRESS
        assert outcome == Bounced(line.scope, line.category, line.refused.text, suppress=suppress)
    assert action_of(outcome) is line.action


def test_the_table_is_long_enough_to_mean_something() -> None:
    lines = table()

    assert len(lines) >= 150
    assert len({line.provider for line in lines} - {"other", "anybody", "ourselves"}) >= 12
    assert {classify.reading_of(line.refused) for line in lines} >= set(TEXTS)
    assert {line.category for line in lines} >= set(get_args(Category)) - {"NoAnswerFromHost"}


def test_a_reply_means_the_same_whoever_it_is_about() -> None:
    for line in table():
        words = msgspec.structs.replace(line.refused, text=f"{line.refused.text} <spam.unknown-user@blocklisted.test>")

        assert classify.reading_of(words) == classify.reading_of(line.refused)


refusals = st.builds(
    Refused,
    stage=st.sampled_from(list(Stage)),
    code=st.integers(400, 599),
    enhanced=st.sampled_from(["", *(f"5.{detail}" for detail in DETAILS), "4.1.1", "5.7.1", "4.0.0", "5.999.999"]),
    text=st.one_of(st.text(), st.sampled_from([line.refused.text for line in table()])),
    host=st.just(HOST),
)

# As it ships, and where an operator's rows read everything so.
classifiers = st.sampled_from([classify, *(Classifier([Reply(regex=".", means=one)]) for one in get_args(Meaning))])


@given(classifiers, refusals)
def test_only_a_permanent_failure_of_the_recipient_suppresses(classify: Classifier, refused: Refused) -> None:
    outcome = classify(refused)

    if isinstance(outcome, Bounced) and outcome.suppress:
        assert outcome.scope is Scope.RECIPIENT
        assert refused.code >= 500
        assert not refused.enhanced.startswith("4")
        assert refused.stage not in BEFORE_RCPT


@given(classifiers, refusals.filter(lambda refused: refused.stage in BEFORE_RCPT or refused.code == 421))
def test_nothing_said_before_rcpt_is_about_the_recipient(classify: Classifier, refused: Refused) -> None:
    outcome = classify(refused)

    assert isinstance(outcome, Bounced | Deferred)
    assert outcome.scope not in (Scope.RECIPIENT, Scope.MAILBOX)


@given(classifiers, refusals.filter(lambda refused: refused.stage in BEFORE_RCPT[:-1]))
def test_no_mail_ends_before_it_was_offered(classify: Classifier, refused: Refused) -> None:
    assert isinstance(classify(refused), Deferred)


@given(classifiers, refusals)
def test_4xx_is_never_final(classify: Classifier, refused: Refused) -> None:
    assert isinstance(classify(refused), Deferred) or refused.code >= 500


@given(refusals)
def test_every_refusal_has_a_known_category(refused: Refused) -> None:
    assert classify.reading_of(refused) in READINGS


def test_every_rule_names_a_known_reading() -> None:
    assert {*TEXTS, *DETAILS.values(), *SUBJECTS.values()} <= set(READINGS)


def test_operators_may_name_every_reading_of_a_reply_and_every_category() -> None:
    assert set(get_args(Meaning)) == set(READINGS) - {"connection"}  # where nothing was said
    assert set(get_args(Category)) == {reading.category for reading in READINGS.values()}


OWN = Classifier(
    [Reply(regex="^550 5.2.1 casella", means="inactive_mailbox"), Reply(regex="casella|virus", means="policy")]
)


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("550 5.2.1 Casella sospesa", "inactive_mailbox"),
        ("550 5.7.1 Casella sospesa", "policy"),
        ("550 5.7.1 virus found", "policy"),
        ("550 5.1.1 ann@casella.test unknown user", "no_such_user"),
        ("554 5.6.0 not sent: casella", "bad_content"),
    ],
)
def test_the_first_of_an_operators_rows_that_matches_counts_before_what_ships(text: str, reading: str) -> None:
    code, enhanced, _ = text.split(" ", 2)

    assert OWN.reading_of(Refused(Stage.RCPT, int(code), enhanced, text, HOST)) == reading


def test_acceptance_is_delivery_with_its_times() -> None:
    accepted = Accepted("250 2.0.0 queued", NOON, NOON + timedelta(seconds=1), HOST)

    assert classify(accepted) == Delivered("250 2.0.0 queued", NOON, NOON + timedelta(seconds=1))


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.DOT])
def test_what_was_lost_before_the_final_dot_comes_again(stage: Stage) -> None:
    assert classify(Lost(stage, "closed", HOST)) == Deferred(Scope.DESTINATION, "NoAnswerFromHost", "closed")


def test_what_was_lost_at_the_final_dot_is_in_doubt() -> None:
    assert classify(Lost(Stage.DOT, "closed", HOST)) == InDoubt("closed")


def test_too_late_is_no_outcome() -> None:
    with pytest.raises(ValueError, match="begin again"):
        classify(TooLate(HOST))


@given(st.integers(0, 999_999), st.sampled_from(["s", "seconds", "min", "minutes", "h", "hours"]))
def test_the_delay_a_server_asks_for_is_obeyed_within_bounds(number: int, unit: str) -> None:
    asked = number * {"s": 1, "m": 60, "h": 3600}[unit[0]]

    found = seconds_asked_for(f"450 4.7.1 please try again in {number} {unit}")

    assert found == min(max(asked, LEAST_AFTER), MOST_AFTER)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("450 4.2.0 Greylisted, come back in 00:05:00", 300.0),
        ("451 delayed for 10m", 600.0),
        ("421 retry after 2h", 7200.0),
    ],
)
def test_a_delay_is_found_however_it_is_written(text: str, asked: float) -> None:
    assert seconds_asked_for(text) == asked


@pytest.mark.parametrize(
    "text", ["450 try again later", "451 4.7.1 5 minutes of fame", "452 retry: code 300", "451 back. 5 min"]
)
def test_a_number_that_is_no_delay_is_not_taken_for_one(text: str) -> None:
    assert seconds_asked_for(text) is None
