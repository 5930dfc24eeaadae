"""MTA-STS policies as domains write them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.wire.policy import Policy, parsed, policy_id

TEXT = "version: STSv1\r\nmode: enforce\r\nmx: mx.x.test\r\nmx: *.Mail.x.test\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    ("records", "id_"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=spf1 -all", "v=STSv1;id=1"], "1"),
        (["v=STSv1; later=on; id=1;"], "1"),
        ([], None),
        (["v=STSv1; id=1;", "v=STSv1; id=2;"], None),
        (["v=STSv1;"], None),
        (["v=STSv1; id=a-b;"], None),
        (["v=STSv2; id=1;"], None),
    ],
)
def test_one_record_with_an_id_says_that_there_is_a_policy(records: list[str], id_: str | None) -> None:
    assert policy_id(records) == id_


def test_a_policy_is_read_as_it_is_written() -> None:
    policy = parsed(TEXT + "mode: none\nlater: on", id="7", now=1000.0)

    assert policy == Policy("7", "enforce", ("mx.x.test", "*.mail.x.test"), 604800, 1000.0)
    assert policy.until == 605800.0


@pytest.mark.parametrize(
    ("changed", "to", "why"),
    [
        ("STSv1", "STSv2", "version: is not STSv1"),
        ("enforce", "strict", "mode: 'strict' is not enforce, testing or none"),
        ("604800", "a week", "max_age: 'a week' is no number of seconds"),
        ("mx:", "ix:", "mx: there is none"),
        ("mx.x.test", "mx x.test", "mx: 'mx x.test' is not the name of a host"),
        ("mx.x.test", "a.*.test", r"mx: 'a.\*.test' is not the name of a host"),
        ("mx: mx.x.test", "mx: m\n" * 100, "mx: there are more than 100"),
    ],
)
def test_what_is_no_policy_is_none(changed: str, to: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        parsed(TEXT.replace(changed, to), id="7", now=0.0)


@given(st.text())
def test_whatever_a_server_sends_is_a_policy_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parsed(text, id="1", now=0.0).max_age <= 31_557_600


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mx.x.test", True),
        ("MX.x.test", True),
        ("a.mail.x.test", True),
        ("a.b.mail.x.test", False),
        ("mail.x.test", False),
        ("mx.x.test.evil.test", False),
        ("evil.test", False),
    ],
)
def test_a_star_is_one_label(host: str, allowed: bool) -> None:
    assert parsed(TEXT, id="7", now=0.0).allows(host) is allowed


@pytest.mark.parametrize(("mode", "binds"), [("enforce", True), ("testing", False), ("none", False)])
def test_only_what_is_enforced_binds(mode: str, binds: bool) -> None:
    assert parsed(TEXT.replace("enforce", mode), id="7", now=0.0).binds is binds
