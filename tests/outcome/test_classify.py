"""Replies are judged as an experienced postmaster would, and never to the harm of a person."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.outcome.classify import LEAST_AFTER, MOST_AFTER, category_of, classify, seconds_asked_for
from mtad.outcome.kinds import Bounced, Deferred, Delivered, InDoubt, Scope
from mtad.outcome.texts import CATEGORIES, DETAILS, SUBJECTS, TEXTS
from mtad.smtp.results import Accepted, Lost, Refused, Stage, TooLate

HOST = "mx.example [192.0.2.25]:25"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
BEFORE_RCPT = [Stage.BANNER, Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.RSET, Stage.MAIL]


def table() -> list[tuple[Refused, str, str, str]]:
    rows = []
    for line in (Path(__file__).parent / "replies.txt").read_text().splitlines():
        if line.startswith("#") or not line:
            continue
        stage, code, enhanced, text, category, scope, action = (cell.strip() for cell in line.split(" | "))
        whole = " ".join(part for part in (code, enhanced, text) if part)
        rows.append((Refused(Stage[stage], int(code), enhanced, whole, HOST), category, scope, action))
    return rows


@pytest.mark.parametrize(
    ("refused", "category", "scope", "action"), table(), ids=lambda value: getattr(value, "text", None)
)
def test_replies_of_real_servers_mean_what_they_mean(refused: Refused, category: str, scope: str, action: str) -> None:
    kind, _, asked = action.partition(":")

    outcome = classify(refused)

    if kind == "later":
        after = float(asked) if asked else None
        assert outcome == Deferred(Scope(scope), category, refused.text, after)
    else:
        assert outcome == Bounced(Scope(scope), category, refused.text, suppress=kind == "suppress")


def test_the_table_is_long_enough_to_mean_something() -> None:
    rows = table()

    assert len(rows) >= 60
    assert {category for _, category, _, _ in rows} >= set(TEXTS) - {"no_such_domain"}


refusals = st.builds(
    Refused,
    stage=st.sampled_from(list(Stage)),
    code=st.integers(400, 599),
    enhanced=st.sampled_from(["", *(f"5.{detail}" for detail in DETAILS), "4.1.1", "5.7.1", "4.0.0", "5.999.999"]),
    text=st.one_of(st.text(), st.sampled_from([refused.text for refused, *_ in table()])),
    host=st.just(HOST),
)


@given(refusals)
def test_only_a_permanent_failure_of_the_recipient_suppresses(refused: Refused) -> None:
    outcome = classify(refused)

    if isinstance(outcome, Bounced) and outcome.suppress:
        assert outcome.scope is Scope.RECIPIENT
        assert refused.code >= 500
        assert not refused.enhanced.startswith("4")
        assert refused.stage not in BEFORE_RCPT


@given(refusals.filter(lambda refused: refused.stage in BEFORE_RCPT or refused.code == 421))
def test_nothing_said_before_rcpt_is_about_the_recipient(refused: Refused) -> None:
    outcome = classify(refused)

    assert isinstance(outcome, Bounced | Deferred)
    assert outcome.scope is not Scope.RECIPIENT


@given(refusals)
def test_4xx_is_never_final(refused: Refused) -> None:
    assert isinstance(classify(refused), Deferred) or refused.code >= 500


@given(refusals)
def test_every_refusal_has_a_known_category(refused: Refused) -> None:
    assert category_of(refused) in CATEGORIES


def test_every_rule_names_a_known_category() -> None:
    assert {*TEXTS, *DETAILS.values(), *SUBJECTS.values()} <= set(CATEGORIES)


def test_acceptance_is_delivery_with_its_times() -> None:
    accepted = Accepted("250 2.0.0 queued", NOON, NOON + timedelta(seconds=1), HOST)

    assert classify(accepted) == Delivered("250 2.0.0 queued", NOON, NOON + timedelta(seconds=1))


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.DOT])
def test_what_was_lost_before_the_final_dot_comes_again(stage: Stage) -> None:
    assert classify(Lost(stage, "closed", HOST)) == Deferred(Scope.DESTINATION, "connection", "closed")


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


@pytest.mark.parametrize("text", ["450 try again later", "451 4.7.1 5 minutes of fame", "452 retry: code 300"])
def test_a_number_that_is_no_delay_is_not_taken_for_one(text: str) -> None:
    assert seconds_asked_for(text) is None
