"""Rules are triggered by receivers' words, and by nothing of ours."""

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.automation import Automation, Category, Rule, limits, rules_in_force, shipped_rules, texts, threshold
from mtad.base.shape import shipped_providers
from mtad.outcome.kinds import Bounced, Deferred, Scope
from mtad.outcome.rules import Matcher
from mtad.smtp.results import Refused, Stage

# What large receivers say when they have had enough, in our own words, and the rules that it counts for.
SAID = [
    ("google", "421 4.7.28 Gmail has seen an unusual rate of unsolicited mail", "SpamContent", ["google-unusual-rate"]),
    ("google", "550 5.7.1 Our system has detected that this message is spam", "SpamContent", ["google-unsolicited"]),
    ("yahoo", "421 4.7.0 [TSS04] Messages deferred due to complaints", "PolicyRelated", ["yahoo-complaints"]),
    ("yahoo", "421 [IPTS05] Messages deferred", "PolicyRelated", ["yahoo-complaints-again"]),
    ("yahoo", "553 5.7.1 [BL21] Connections not accepted", "PolicyRelated", ["yahoo-blocklisted"]),
    ("outlook", "451 4.7.500 Server busy. Please try again later", "RateLimited",
     ["rate-limited", "outlook-busy", "outlook-busier"]),
    ("outlook", "550 5.7.1 Part of their network is on our block list (S3150)", "SpamBlock",
     ["blocked", "outlook-blocked"]),
    ("microsoft365", "550 5.7.606 Access denied, banned sending IP", "PolicyRelated", ["microsoft365-banned"]),
    ("apple", "421 4.7.1 [HCM1] Mail from 192.0.2.1 was deferred", "PolicyRelated", ["apple-throttled"]),
    ("gmx", "421 Too many connections", "PolicyRelated", ["gmx-connections"]),
    ("t-online", "554 IP=192.0.2.1 - Ask your postmaster for help", "BadConnection", ["t-online-unknown"]),
    ("orange", "421 Service refuse. Trop de connexions", "PolicyRelated", ["orange-connections", "orange-refused"]),
    ("comcast", "421 4.2.0 Throttled. RL000001", "PolicyRelated", ["comcast-rate"]),
    ("comcast", "421 4.2.0 Throttled. RL000010", "PolicyRelated", ["comcast-sender"]),
    ("mimecast", "451 Internal resources are temporarily unavailable", "TransientFailure", ["mimecast-resources"]),
    ("qq", "550 Ip frequency limited", "PolicyRelated", ["qq-frequency"]),
    ("netease", "554 HL:ITC too much for today", "PolicyRelated", ["netease-daily"]),
    ("yahoo", "421 4.7.0 [TS03] All messages will be permanently deferred", "PolicyRelated",
     ["deferred-by-reputation", "yahoo-volume"]),
    (None, "421 4.7.0 [TSS04] Messages deferred due to complaints", "PolicyRelated", []),
    ("yahoo", "421 4.7.0 later, says <[TSS04]@reader.test>", "PolicyRelated", []),
]  # fmt: skip

SHIPPED = Matcher(rules_in_force(Automation()))


def refused(text: str) -> Refused:
    return Refused(Stage.MAIL, int(text[:3]), "", text, "mx.test")


def check(*rules: Rule) -> None:
    for _, parse, text in texts(Automation(rule=rules)):
        parse(text)


@pytest.mark.parametrize(("provider", "text", "category", "rules"), SAID)
def test_receivers_words_count_for_their_rules(
    provider: str | None, text: str, category: str, rules: list[str]
) -> None:
    outcome = Deferred(Scope.POLICY, category, text)

    assert [rule.name for rule in SHIPPED.matching(refused(text), outcome, provider)] == rules


@given(st.sampled_from(SAID), st.sampled_from([None, *shipped_providers()]), st.sampled_from(get_args(Category)))
def test_our_own_words_trigger_nothing(
    said: tuple[str, str, str, list[str]], provider: str | None, category: str
) -> None:
    ours = refused(f"553 5.6.7 not sent: {said[1]}")

    assert SHIPPED.matching(ours, Bounced(Scope.PROTOCOL, category, ours.text), provider) == ()


@pytest.mark.parametrize("scope", [Scope.RECIPIENT, Scope.MAILBOX])
def test_what_is_about_one_mailbox_counts_for_no_pattern(scope: Scope) -> None:
    text = "452 4.2.2 over quota, temporarily deferred [TSS04]"

    assert SHIPPED.matching(refused(text), Deferred(scope, "QuotaIssues", text), "yahoo") == ()
    own = Rule(name="bad list", category=("InvalidRecipient",), threshold="50/h", suspend="campaign", duration="1d")
    unknown = Bounced(Scope.RECIPIENT, "InvalidRecipient", text, suppress=True)
    assert Matcher([own]).matching(refused(text), unknown, None) == (own,)


def test_every_shipped_rule_is_whole_and_of_a_known_provider() -> None:
    rules = shipped_rules()
    check(*rules)

    assert {rule.provider for rule in rules} <= {"", *shipped_providers()}
    assert {category for rule in rules for category in rule.category} <= set(get_args(Category))
    assert len({rule.name for rule in rules}) == len(rules)


def test_a_rule_of_ones_own_replaces_the_shipped_one_of_its_name() -> None:
    own = Rule(name="yahoo-complaints", regex="x", suspend="source", duration="1h")
    found = rules_in_force(Automation(off=("outlook-busy",), rule=(own,)))
    names = [rule.name for rule in found]

    assert found[0] is own
    assert names.count("yahoo-complaints") == 1
    assert "outlook-busy" not in names
    assert rules_in_force(Automation(off=("*",), rule=(own,))) == [own]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"regex": "("}, "no regular expression"),
        ({"threshold": "often"}, "'often' is not a threshold"),
        ({"threshold": "0/h"}, "'0/h' is not a threshold"),
        ({"duration": "long"}, "'long' is not a duration"),
        ({"max_message_rate": "slow"}, "'slow' is not a rate"),
        ({"category": ("RateLimited",)}, "x: say either regex or category"),
        ({"suspend": ""}, "x: has no effect"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(changes: dict[str, object], says: str) -> None:
    rule = Rule(name="x", regex="y", suspend="lane", duration="1h")
    broken = msgspec.structs.replace(rule, **changes)

    with pytest.raises(ValueError, match=says):
        check(broken)


@given(st.integers(1, 999), st.sampled_from([("h", 3600), ("hr", 3600), ("15m", 900), ("min", 60), ("d", 86400)]))
def test_a_threshold_is_a_number_within_a_time(number: int, period: tuple[str, int]) -> None:
    assert threshold(f"{number}/{period[0]}") == (number, period[1])


def test_the_limits_of_a_rule_are_those_that_it_names() -> None:
    rule = Rule(name="x", regex="y", duration="1h", connection_limit=1, max_message_rate="1/min")

    assert limits(rule) == {"max_message_rate": "1/min", "connection_limit": "1"}
