"""The gate: each reason, their order, what holds transactional mail."""

from datetime import UTC, datetime, time, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.facts import Defer, Facts, Reason, Send, Skip, Verdict
from engine.gate import Context, Suspended, sentence, verdict
from engine.programs import Audience, Definition, EndNode, SendNode
from engine.rules import Policy
from engine.slots import Cap, Quiet, Slots
from engine.zones import Zone

NOW = datetime(2026, 11, 1, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
STREAM = 3


def program(**changes: Any) -> Definition:
    values: dict[str, Any] = {
        "name": "x",
        "kind": "series",
        "stream": "s",
        "first": "m",
        "audience": Audience({"country": ["US"]}),
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
        "attributes": {"country": "US"},
        "erased": False,
        "subscription": "subscribed",
        "entry_ended": False,
        "stream_id": STREAM,
        "program_status": "running",
    }
    return Facts(**(values | changes))


# The program for longer than the mail lives; what has lapsed holds nothing.
SUSPENDED = Suspended({"held.test": NOW + HOUR / 2, "example.com": NOW}, {7: NOW + 9 * HOUR})


# It is a Sunday, and nine o'clock in London.
POLICY = Policy(
    slots=Slots(
        caps=(Cap(1, 5400.0, "often"), Cap(2, 86400.0, "day", skip=True)),
        caps_all=(Cap(3, 86400.0, "all"),),
        quiet=Quiet(time(21, 30), time(22, 30)),
        days=frozenset({0, 1, 2, 3, 4, 6}),
    ),
    zone="Europe/London",
)
AUCKLAND, HONOLULU, LONDON = (
    Zone(ZoneInfo("Pacific/Auckland"), "contact"),
    Zone(ZoneInfo("Pacific/Honolulu"), "contact"),
    Zone(ZoneInfo("Europe/London"), "stream"),
)


def judged(*, definition: Definition | None = None, domains: frozenset[str] = frozenset(), **changes: Any) -> Verdict:
    return verdict(facts(**changes), Context(definition or program(), domains, SUSPENDED, POLICY), NOW)


def mailed(*ago: timedelta, on: int = STREAM) -> dict[str, Any]:
    return {"sent": [NOW - since for since in ago], "sent_on": [on] * len(ago)}


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
    ({"program_id": 7, "not_after": NOW + HOUR}, Defer(NOW + HOUR, "suspended:campaign"), True),
    ({"domain": "held.test"}, Defer(NOW + HOUR / 2, "suspended:domain"), True),
]
# The last check of all: what it looks at moves one another, so they are one check.
SLOTS: list[tuple[dict[str, Any], Verdict, bool]] = [
    (mailed(HOUR), Defer(NOW + HOUR / 2, "cap:often", LONDON), False),
    (mailed(HOUR / 4), Skip("no_slot"), False),
    (mailed(3 * HOUR, 2 * HOUR), Skip("cap:day"), False),
    ({"zone": "Pacific/Auckland"}, Defer(NOW + HOUR / 2, "quiet_hours", AUCKLAND), False),
    (
        {"zone": "Pacific/Honolulu", "not_after": NOW + 2 * HOUR},
        Defer(NOW + HOUR, "sending_day", HONOLULU),
        False,
    ),
]
BLOCKED = frozenset({"blocked.test"})


def test_nothing_against_it_is_send() -> None:
    assert judged() == Send()
    assert judged(class_=0, subscription=None, attributes={}) == Send()


@pytest.mark.parametrize(("wrong", "expected", "transactional"), CHECKS + SLOTS)
def test_each_check_holds_what_it_should(wrong: dict[str, Any], expected: Verdict, transactional: bool) -> None:
    assert judged(domains=BLOCKED, **wrong) == expected
    assert judged(domains=BLOCKED, class_=1, **wrong) == expected
    assert judged(domains=BLOCKED, class_=0, **wrong) == (expected if transactional else Send())


@pytest.mark.parametrize(
    ("first", "later"),
    [pair for pair in combinations(CHECKS + SLOTS, 2) if pair[0] in CHECKS and not set(pair[0][0]) & set(pair[1][0])],
)
def test_the_first_check_that_fails_decides(
    first: tuple[dict[str, Any], Verdict, bool], later: tuple[dict[str, Any], Verdict, bool]
) -> None:
    assert judged(domains=BLOCKED, **(later[0] | first[0])) == first[1]


OTHER: list[tuple[dict[str, Any], str]] = [
    ({"subscription": None}, "not_subscribed"),
    ({"subscription": "unconfirmed"}, "not_confirmed"),
    ({"suppressed_marketing": "manual"}, "suppressed:manual"),
    ({"state": "trying"}, "inactive:in_reactivation"),
    ({"state": "resting"}, "inactive:resting"),
    ({"attributes": {}}, "left_audience"),
]


@pytest.mark.parametrize(("wrong", "reason"), OTHER)
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


@given(st.lists(st.sampled_from(CHECKS + SLOTS), max_size=4), st.integers(0, 2))
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


# Not the gate's: where each is made.
ELSEWHERE = {
    Reason.HOLDOUT: "tests/programs/test_examples.py",
    Reason.REDIRECTED: "tests/programs/test_intake.py",
    Reason.PURGED: "tests/operate/test_hold.py",
    Reason.MISSING_VALUE: "tests/compose/test_parts.py",
    Reason.CONTENT: "tests/compose/test_composer.py",
}


def test_every_reason_of_the_gate_is_made_here() -> None:
    made = {said.reason.partition(":")[0] for _, said, _ in CHECKS + SLOTS if not isinstance(said, Send)}
    made |= {reason.partition(":")[0] for _, reason in OTHER}

    assert made | ELSEWHERE.keys() == set(Reason)
    root = Path(__file__).parents[2]
    assert [reason for reason, file in ELSEWHERE.items() if reason not in (root / file).read_text()] == []


def test_slot_that_an_earlier_attempt_took_does_not_stand_in_the_way() -> None:
    assert judged(**mailed(HOUR), slot=NOW - HOUR) == Send()


def test_sends_on_other_streams_count_for_caps_over_all_only() -> None:
    others = mailed(HOUR, HOUR / 2, HOUR / 4, on=STREAM + 1)

    assert judged(**mailed(HOUR / 2, HOUR / 4, on=STREAM + 1)) == Send()
    assert judged(**others, not_after=NOW + 48 * HOUR) == Defer(NOW + 23 * HOUR, "cap:all", LONDON)


def test_what_is_put_off_is_put_off_for_a_minute_at_least() -> None:
    moment = timedelta(seconds=1)

    assert judged(**mailed(1.5 * HOUR - moment)) == Defer(NOW + timedelta(minutes=1), "cap:often", LONDON)
    assert judged(break_until=NOW + moment) == Defer(NOW + timedelta(minutes=1), "contact_on_break")
    assert judged(domain="held.test", not_after=NOW + moment) == Defer(NOW + timedelta(minutes=1), "suspended:domain")


def test_what_is_no_reason_has_no_sentence() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        sentence("nonsense")


def test_what_a_triggered_program_waives_does_not_bind_it() -> None:
    greeting = program(kind="campaign", class_=1, waives=("inactive", "left_audience"))

    assert judged(definition=greeting, class_=1, state="resting", attributes={"country": "FR"}) == Send()
    assert judged(definition=program(), class_=1, state="resting") == Skip("inactive:resting")
