"""The gate: each reason, their order, what holds transactional mail."""

from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.facts import Defer, Facts, Reason, Send, Skip, Verdict
from engine.gate import Context, Suspended, sentence, verdict
from engine.programs import Audience, Definition, EndNode, SendNode

NOW = datetime(2026, 11, 1, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


def program(**changes: Any) -> Definition:
    values: dict[str, Any] = {
        "name": "x",
        "kind": "series",
        "stream": "s",
        "first": "m",
        "audience": Audience({"country": ["DE"]}),
        "nodes": {"m": SendNode("m", "end"), "end": EndNode()},
    }
    return Definition(**(values | changes))


def facts(**changes: Any) -> Facts:
    """Somebody against whom nothing speaks."""
    values: dict[str, Any] = dict.fromkeys(Facts.__struct_fields__)
    values |= {
        "job_id": 1,
        "class_": 2,
        "attempt": 0,
        "created": NOW - HOUR,
        "not_after": NOW + HOUR,
        "domain": "example.com",
        "attributes": {"country": "DE"},
        "erased": False,
        "subscription": "subscribed",
        "entry_ended": False,
        "program_status": "running",
    }
    return Facts(**(values | changes))


# The program for longer than the mail lives; what has lapsed holds nothing.
SUSPENDED = Suspended({"held.test": NOW + HOUR / 2, "example.com": NOW}, {7: NOW + 9 * HOUR})


def judged(*, definition: Definition | None = None, domains: frozenset[str] = frozenset(), **changes: Any) -> Verdict:
    return verdict(facts(**changes), Context(definition or program(), domains, SUSPENDED), NOW)


# In the order of the checks: what is wrong, the verdict, whether it holds transactional mail.
CHECKS: list[tuple[dict[str, Any], Verdict, bool]] = [
    ({"erased": True}, Skip("erased"), True),
    ({"suppressed_all": "hard_bounce"}, Skip("suppressed:hard_bounce"), True),
    ({"domain": "blocked.test"}, Skip("suppressed_domain"), True),
    ({"suppressed_marketing": "complained"}, Skip("complained"), False),
    ({"subscription": "unsubscribed"}, Skip("unsubscribed"), False),
    ({"break_until": NOW + HOUR}, Defer(NOW + HOUR, "contact_on_break"), False),
    ({"program_status": "cancelled"}, Skip("cancelled"), True),
    ({"program_status": "paused"}, Defer(NOW + timedelta(minutes=1), "paused"), True),
    ({"not_after": NOW}, Skip("too_late"), True),
    ({"entry_ended": True, "entry_why": "clicked"}, Skip("left:clicked"), False),
    ({"state": "cooling"}, Skip("inactive:cooling"), False),
    ({"attributes": {"country": "FR"}}, Skip("left_audience"), False),
    ({"program_id": 7}, Defer(NOW + HOUR, "suspended:campaign"), True),
    ({"domain": "held.test"}, Defer(NOW + HOUR / 2, "suspended:domain"), True),
]
BLOCKED = frozenset({"blocked.test"})


def test_nothing_against_it_is_send() -> None:
    assert judged() == Send()
    assert judged(class_=0, subscription=None, attributes={}) == Send()


@pytest.mark.parametrize(("wrong", "expected", "transactional"), CHECKS)
def test_each_check_holds_what_it_should(wrong: dict[str, Any], expected: Verdict, transactional: bool) -> None:
    assert judged(domains=BLOCKED, **wrong) == expected
    assert judged(domains=BLOCKED, class_=1, **wrong) == expected
    assert judged(domains=BLOCKED, class_=0, **wrong) == (expected if transactional else Send())


@pytest.mark.parametrize(
    ("first", "later"),
    [pair for pair in combinations(CHECKS, 2) if not set(pair[0][0]) & set(pair[1][0])],
)
def test_the_first_check_that_fails_decides(
    first: tuple[dict[str, Any], Verdict, bool], later: tuple[dict[str, Any], Verdict, bool]
) -> None:
    assert judged(domains=BLOCKED, **(later[0] | first[0])) == first[1]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"subscription": None}, "not_subscribed"),
        ({"subscription": "unconfirmed"}, "not_confirmed"),
        ({"suppressed_marketing": "manual"}, "suppressed:manual"),
        ({"state": "trying"}, "inactive:in_reactivation"),
        ({"state": "resting"}, "inactive:resting"),
        ({"attributes": {}}, "left_audience"),
    ],
)
def test_other_reasons(wrong: dict[str, Any], reason: str) -> None:
    assert judged(**wrong) == Skip(reason)


@pytest.mark.parametrize("state", [None, "active", "engaged", "reactivated"])
def test_whoever_is_not_inactive_is_mailed(state: str | None) -> None:
    assert judged(state=state, since=NOW) == Send()


def test_campaign_does_not_wait_for_the_end_of_a_break() -> None:
    campaign = program(kind="campaign")

    assert judged(definition=campaign, break_until=NOW + HOUR) == Skip("contact_on_break")
    assert judged(definition=campaign, class_=1, break_until=NOW + HOUR) == Defer(NOW + HOUR, "contact_on_break")
    assert judged(break_until=NOW) == Send()


@pytest.mark.parametrize(
    ("on_engaged", "since", "expected"),
    [
        ("leave", NOW, Skip("left:engaged")),
        ("leave", NOW - 2 * HOUR, Send()),
        ("stay", NOW, Send()),
    ],
)
def test_campaign_is_left_by_who_became_engaged_after_it_was_queued(
    on_engaged: str, since: datetime, expected: Verdict
) -> None:
    campaign = program(kind="campaign", on_engaged=on_engaged)

    assert judged(definition=campaign, state="engaged", since=since) == expected


@given(st.lists(st.sampled_from(CHECKS), max_size=4), st.integers(0, 2))
def test_verdict_is_a_function_of_what_it_is_told(checks: list[tuple[dict[str, Any], Verdict, bool]], cls: int) -> None:
    wrong: dict[str, Any] = {"class_": cls}
    for changes, _, _ in checks:
        wrong |= changes

    said = judged(domains=BLOCKED, **wrong)

    assert said == judged(domains=BLOCKED, **wrong)
    if not isinstance(said, Send):
        assert sentence(said.reason)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_sentence(reason: Reason) -> None:
    plain, detailed = sentence(reason), sentence(f"{reason}:some detail")

    assert plain.endswith(".")
    assert detailed.endswith(".")
    assert "some detail" in detailed


def test_what_is_no_reason_has_no_sentence() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        sentence("nonsense")
