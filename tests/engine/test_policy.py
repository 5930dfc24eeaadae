"""Streams: what a file means and what is refused."""

import tomllib

import pytest

from engine.policy import Policy, StreamDefinition, mailbox, parse_stream
from mtad.base.errors import InputError

STREAM = """
name = "sales-de"
from = "Demo <demo@example.com>"
tracking = "full"
[policy]
day = "1s"
"""


def parsed(text: str) -> StreamDefinition:
    return parse_stream(tomllib.loads(text))


def test_spans_follow_the_length_of_a_day() -> None:
    stream = parsed(STREAM)

    assert stream.policy == Policy(day=1.0, window=3.0, cool_downs=(30.0, 90.0))
    assert stream.list_id == "sales-de.example.com"
    assert StreamDefinition.from_json(stream.to_json()) == stream


def test_defaults_of_file_and_struct_are_the_same() -> None:
    assert parsed(STREAM.replace('day = "1s"', "")).policy == Policy()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('tracking = "full"', "", "tracking: is missing; write full, hygiene, aggregate or none"),
        ('"full"', '"maybe"', "tracking: full or hygiene or aggregate or none, is 'maybe'"),
        ("name =", "nome =", "unknown key `nome`"),
        ('from = "Demo <demo@example.com>"', "", "missing key `from`"),
        ("demo@example.com", "demo", "from: 'Demo <demo>': no @ in it"),
        ("Demo <demo@example.com>", "<<", "from: '<<' is not an address"),
        ("demo@example.com>", "demo@example.com>\\nBcc: x@y.test", "is not an address"),
        ("[policy]", 'reply_to = "nobody"\n[policy]', "reply_to: 'nobody': no @ in it"),
        ("[policy]", 'tracking_url = "t.example.com"\n[policy]', "tracking_url: write https://host"),
        ("[policy]", 'tracking_url = "http://t.example.com"\n[policy]', "tracking_url: write https://host"),
        ("[policy]", 'tracking_url = "https://t.example.com/ä"\n[policy]', "tracking_url: write https://host"),
        ("[policy]", 'tracking_url = "https://t.example.com\\r\\nX: y"\n[policy]', "tracking_url: write https://host"),
        ("[policy]", 'tracking_url = "https://t.example.com/?a=1"\n[policy]', "tracking_url: write https://host"),
        ("[policy]", 'forget_after = "3y"\n[policy]', "forget_after: '3y' is not a duration"),
        ("[policy]", 'forget_after = "299d"\n[policy]', "forget_after: must be 300d or more, days_unclear and cool"),
        ("day =", "dya =", "policy: unknown key `dya`"),
        ('day = "1s"', 'threshold = "20"', "policy.threshold: expected `int`, got `str`"),
        ('day = "1s"', "threshold = 0", "policy.threshold: must be 1 or more, is 0"),
        ('day = "1s"', "points = { open = 0, click = 0, page = 0 }", "policy.threshold: 20 cannot be reached"),
        ('day = "1s"', "points = { open = -1 }", "policy.points.open: 0 to 1000, is -1"),
        ('day = "1s"', "points = { click = 40000 }", "policy.points.click: 0 to 1000, is 40000"),
        ('day = "1s"', "points = { reply = 1 }", "policy.points: unknown key `reply`"),
        ('day = "1s"', 'day = "0s"', "policy.day: must be above 0"),
        ('day = "1s"', 'window = "-3d"', "policy.window: must not be negative, is -3d"),
        ('day = "1s"', 'window = "0s"', "policy.window: must be above 0"),
        ('day = "1s"', 'cool_downs = ["9999999d"]', "policy.cool_downs: at most ten years, is 9999999d"),
        ('day = "1s"', "cool_downs = []", "policy.cool_downs: at least one is needed"),
        ('day = "1s"', 'cool_downs = ["90d", "30d"]', "policy.cool_downs: must not shrink"),
        ('day = "1s"', "missing_limit = 2.0", "policy.missing_limit: a share above 0 and up to 1, is 2.0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(old: str, new: str, says: str) -> None:
    assert old in STREAM

    with pytest.raises(InputError) as error:
        parsed(STREAM.replace(old, new, 1))

    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "name"), [("a@b.test", ""), ("<a@b.test>", ""), ("Ann <a@b.test>", "Ann"), ('"A, B" <a@b.test>', "A, B")]
)
def test_mailbox_is_a_name_and_an_address(text: str, name: str) -> None:
    display, address = mailbox("from", text)

    assert (display, address.wire) == (name, "a@b.test")


def test_a_quoted_name_loses_its_quotes_and_backslashes() -> None:
    name, address = mailbox("from", '"Müller, \\"X\\" GmbH" <a@example.com>')

    assert (name, address.wire) == ('Müller, "X" GmbH', "a@example.com")
