"""What a verdict or an outcome means for the job and its entry."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.facts import Defer, Facts
from engine.policy import Policy
from engine.programs import parse_program
from engine.service import Program, Stream
from mtad.base.retry import Retries
from mtad.base.retry import Retry as Bulk
from mtad.base.shape import Shape
from mtad.outcome.kinds import Bounced, Deferred, Delivered, InDoubt, Outcome, Scope
from mtad.pipeline.endings import (
    MOST_BLAMED,
    Mail,
    Retry,
    after_attempt,
    ended_by_doubt,
    ended_by_proof,
    ended_by_skip,
    is_trouble,
    lenient,
    retry_of,
    returned_by_deferral,
)
from mtad.queue.store import Ended, Returned

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
RETRY = Retry(interval=1200, longest=21600, in_doubt=1800)
DEFINITION = parse_program(
    {"name": "nudge", "kind": "series", "stream": "sales",
     "step": [{"message": "one"}, {"wait": "3d", "message": "two"}]},
    day=86400, window=Policy().window,
)  # fmt: skip
PROGRAM = Program(1, 1, "nudge", "series", 1, DEFINITION, {"one": 1, "two": 2})
FACTS = Facts(
    job_id=7, contact_id=1, stream_id=1, program_id=1, version=1, message_id=1, entry_id=3, site_id=1, class_=2,
    attempt=0, doubts=0, created=NOW, not_after=NOW + timedelta(days=5), node="one", address="a@b.test",
    address_key="a@b.test", domain="b.test", locale=None, zone=None, attributes={}, erased=False,
    subscription="subscribed", break_until=None, tracking=None, suppressed_all=None, suppressed_marketing=None,
    state=None, since=None, cool_until=None, cycle=0, entry_ended=False, entry_why=None, gate_version=1,
    program_fence=1, program_status="running", stream_version=1, epoch=1,
)  # fmt: skip


def mail(**changes: object) -> Mail:
    facts = msgspec.structs.replace(FACTS, **changes)
    return Mail(facts, PROGRAM, Stream(1, 1, "sales", None))  # type: ignore[arg-type]


def after(outcome: Outcome, **changes: object) -> Ended | Returned:
    return after_attempt(mail(**changes), outcome, RETRY, now=NOW, luck=0.5)


def test_a_delivered_mail_sends_its_entry_to_the_next_step_after_the_wait() -> None:
    row = after(Delivered("250 ok", NOW, NOW))

    assert isinstance(row, Ended)
    assert (row.outcome, row.next_node, row.next_wait, row.why) == ("delivered", "two", 3 * 86400, None)


def test_a_mail_outside_of_a_series_has_no_next_step() -> None:
    row = after(Delivered("250 ok", NOW, NOW), entry_id=None)

    assert isinstance(row, Ended)
    assert row.next_node is None


def test_an_unknown_recipient_is_suppressed_and_leaves_the_series() -> None:
    row = after(Bounced(Scope.RECIPIENT, "InvalidRecipient", "550 5.1.1", suppress=True))

    assert isinstance(row, Ended)
    assert (row.outcome, row.suppress, row.why, row.next_node) == ("bounced", True, "bounced", None)


@pytest.mark.parametrize("scope", [s for s in Scope if s is not Scope.RECIPIENT])
def test_a_refusal_that_is_ours_never_counts_against_the_contact(scope: Scope) -> None:
    row = after(Bounced(scope, "SpamContent", "550 5.7.1"))

    assert isinstance(row, Ended)
    assert (row.outcome, row.suppress, row.why, row.next_node) == ("bounced", False, None, "two")


@pytest.mark.parametrize(
    ("outcome", "attempt", "is_over"),
    [
        (Bounced(Scope.SOURCE, "SpamBlock", "550 blocked"), 0, False),
        (Bounced(Scope.POLICY, "RateLimited", "550 too many"), MOST_BLAMED - 2, False),
        (Bounced(Scope.SOURCE, "SpamBlock", "550 blocked"), MOST_BLAMED - 1, True),
        (Bounced(Scope.SENDER, "InvalidSender", "550 who"), 0, True),
        (Bounced(Scope.MESSAGE, "SpamContent", "550 spam"), 0, True),
        (Bounced(Scope.RECIPIENT, "InvalidRecipient", "550 5.1.1", suppress=True), 0, True),
    ],
)
def test_a_mail_that_is_refused_because_of_our_address_is_tried_a_few_times(
    outcome: Bounced, attempt: int, is_over: bool
) -> None:
    lenience = lenient(outcome, attempt)

    assert lenience == (outcome if is_over else Deferred(outcome.scope, outcome.category, outcome.reply))


def test_a_deferred_mail_is_tried_again_until_it_is_too_old() -> None:
    later = Deferred(Scope.DESTINATION, "busy", "451 later")

    back = after(later)
    over = after(later, not_after=NOW + timedelta(seconds=60))

    assert isinstance(back, Returned)
    assert 0 < back.delay <= RETRY.interval
    assert isinstance(over, Ended)
    assert (over.outcome, over.next_node) == ("expired", "two")


def test_a_lost_answer_to_the_final_dot_is_a_doubt_until_it_is_too_old() -> None:
    back = after(InDoubt("closed"))
    over = after(InDoubt("closed"), not_after=NOW + timedelta(seconds=60))

    assert isinstance(back, Returned)
    assert (back.doubt, back.delay) == (True, RETRY.in_doubt)
    assert isinstance(over, Ended)
    assert over.outcome == "in_doubt"


def test_a_class_is_tried_again_as_it_says_or_as_its_destination_does() -> None:
    shape = Shape(retry_interval="30m", max_retry_interval="4h", in_doubt_interval="1h")
    bulk = Bulk(max_retry_interval="2h", retry_factor=1.5, retry_jitter=0.1)

    assert retry_of(2, Retries(bulk=bulk), shape) == Retry(1800, 7200, 3600, 1.5, 0.1)
    assert retry_of(1, Retries(), shape) == Retry(1800, 14400, 3600)
    assert retry_of(0, Retries(), shape) == Retry(60, 3600, 300)


def test_a_doubt_that_is_given_up_ends_the_mail_and_its_entry_goes_on() -> None:
    row = ended_by_doubt(msgspec.structs.replace(FACTS, attempt=1, doubts=1), PROGRAM)

    assert (row.outcome, row.attempts, row.suppress, row.next_node) == ("in_doubt", 1, False, "two")


def test_a_proven_mail_counts_as_delivered_at_the_time_of_the_proof() -> None:
    row = ended_by_proof(FACTS, PROGRAM, NOW)

    assert (row.outcome, row.ended, row.next_node) == ("delivered", NOW, "two")


@pytest.mark.parametrize("reason", ["missing_value:first_name", "content:too long", "too_late"])
def test_a_skip_about_one_mail_lets_the_series_go_on(reason: str) -> None:
    row = ended_by_skip(FACTS, PROGRAM, reason)

    assert (row.outcome, row.next_node, row.why) == ("skipped", "two", None)


@pytest.mark.parametrize("reason", ["unsubscribed", "suppressed:manual", "inactive:cooling", "left:engaged"])
def test_a_skip_about_the_person_ends_the_series(reason: str) -> None:
    row = ended_by_skip(FACTS, PROGRAM, reason)

    assert (row.outcome, row.next_node, row.why) == ("skipped", None, reason.partition(":")[0])


def test_a_mail_that_was_tried_and_is_too_late_has_expired() -> None:
    row = ended_by_skip(msgspec.structs.replace(FACTS, attempt=2), PROGRAM, "too_late")

    assert (row.outcome, row.attempts) == ("expired", 2)


@given(st.integers(-1000, 1_000_000))
def test_a_deferral_by_the_gate_is_no_attempt_and_never_lies_in_the_past(seconds: int) -> None:
    row = returned_by_deferral(FACTS, Defer(NOW + timedelta(seconds=seconds), "paused"), NOW)

    assert (row.attempts, row.doubt) == (0, False)
    assert row.delay == max(seconds, 0)


@pytest.mark.parametrize(
    ("outcome", "trouble"),
    [
        (Delivered("250 ok", NOW, NOW), False),
        (InDoubt("no answer"), True),
        (Deferred(Scope.DESTINATION, "BadConnection", "no connection"), True),
        (Deferred(Scope.POLICY, "RateLimited", "421 too many"), True),
        (Deferred(Scope.SOURCE, "BadConfiguration", "421 who are you"), True),
        (Bounced(Scope.SOURCE, "SpamBlock", "550 blocked"), True),
        (Deferred(Scope.POLICY, "Greylisted", "451 greylisted"), False),
        (Deferred(Scope.MAILBOX, "QuotaIssues", "452 full"), False),
        (Bounced(Scope.RECIPIENT, "InvalidRecipient", "550 5.1.1", suppress=True), False),
        (Bounced(Scope.DESTINATION, "RelayDenied", "550 no relaying"), False),
    ],
)
def test_only_what_fewer_sessions_may_mend_is_trouble(outcome: Outcome, trouble: bool) -> None:
    assert is_trouble(outcome) is trouble
