"""Tokens are ours, for one purpose, or nothing."""

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.errors import ConfigError
from tracker import tokens
from tracker.tokens import ContactToken, Keys, LinkToken, Purpose

OLD = "3:" + "11" * 32
NEW = "7:" + "22" * 32
KEYS = Keys.parse(f"# rotated in spring\n{OLD}\n\n{NEW}\n")

jobs = st.integers(0, 2**63 - 1)
links = st.integers(0, 2**31 - 1)
values = st.lists(st.text(), max_size=3)
purposes = st.sampled_from([Purpose.OPEN, Purpose.CLICK])


@given(purposes, jobs, links, values)
def test_a_link_token_says_what_was_put_in(purpose: Purpose, job: int, link: int, given_values: list[str]) -> None:
    token = tokens.link_token(KEYS, purpose, job, link, given_values)

    assert len(token) == 36
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert tokens.read_link_token(KEYS, purpose, token, given_values) == LinkToken(job, link)


@given(jobs, links)
def test_a_contact_token_says_what_was_put_in(contact: int, program: int) -> None:
    token = tokens.contact_token(KEYS, contact, program)

    assert len(token) == 36
    assert tokens.read_contact_token(KEYS, token) == ContactToken(contact, program)


# One of each kind, and whatever reads one.
MADE = {
    "open": tokens.link_token(KEYS, Purpose.OPEN, 99, 5),
    "hygiene": tokens.link_token(KEYS, Purpose.HYGIENE, 99, 5),
    "click": tokens.link_token(KEYS, Purpose.CLICK, 99, 5),
    "unsubscribe": tokens.contact_token(KEYS, 99, 5),
    "preferences": tokens.preferences_token(KEYS, 99, 5),
    "confirm": tokens.confirm_token(KEYS, 99),
    "probe": tokens.proof(KEYS, "asked"),
}


def read_as_any(token: str) -> dict[str, object]:
    return {
        "open": tokens.read_link_token(KEYS, Purpose.OPEN, token),
        "hygiene": (pixel := tokens.read_pixel_token(KEYS, token)) and pixel.hygiene,
        "click": tokens.read_link_token(KEYS, Purpose.CLICK, token),
        "unsubscribe": tokens.read_contact_token(KEYS, token),
        "preferences": tokens.read_preferences_token(KEYS, token),
        "confirm": tokens.read_confirm_token(KEYS, token),
        "probe": tokens.is_proof(KEYS, "asked", token),
    }


@pytest.mark.parametrize("kind", MADE)
def test_a_token_is_read_as_what_it_is_and_with_a_flipped_bit_as_nothing(kind: str) -> None:
    assert [name for name, found in read_as_any(MADE[kind]).items() if found] == [kind]
    raw = base64.urlsafe_b64decode(MADE[kind])
    for bit in range(8 * len(raw)):
        forged = bytearray(raw)
        forged[bit // 8] ^= 1 << bit % 8
        assert not any(read_as_any(base64.urlsafe_b64encode(forged).decode()).values())


@given(jobs, st.integers(0, 35), st.sampled_from(["", "=", "é", "/", "\n", "A"]))
def test_no_other_spelling_or_length_is_accepted(job: int, cut: int, tail: str) -> None:
    token = tokens.link_token(KEYS, Purpose.OPEN, job, 5)

    if token[:cut] + tail != token:
        assert tokens.read_link_token(KEYS, Purpose.OPEN, token[:cut] + tail) is None
    if tail:
        assert tokens.read_link_token(KEYS, Purpose.OPEN, token + tail) is None


@given(st.text(max_size=60))
def test_what_we_did_not_make_is_nothing(text: str) -> None:
    assert tokens.read_link_token(KEYS, Purpose.CLICK, text) is None
    assert tokens.read_contact_token(KEYS, text) is None
    assert tokens.read_return_path(KEYS, text) is None


ALIKE = [purpose for purpose in Purpose if purpose is not Purpose.RETURN_PATH]


@given(st.sampled_from(ALIKE), st.sampled_from(ALIKE), jobs, links)
def test_a_token_is_good_for_one_purpose(made: Purpose, asked: Purpose, job: int, link: int) -> None:
    token = tokens.link_token(KEYS, made, job, link)

    assert (tokens.read_link_token(KEYS, asked, token) is not None) == (made is asked)
    assert (tokens.read_pixel_token(KEYS, token) is not None) == (made in (Purpose.OPEN, Purpose.HYGIENE))
    assert (tokens.read_contact_token(KEYS, token) is not None) == (made is Purpose.UNSUBSCRIBE)
    assert tokens.read_return_path(KEYS, token) is None


@given(values, values)
def test_only_the_values_that_were_signed_are_accepted(signed: list[str], sent: list[str]) -> None:
    token = tokens.link_token(KEYS, Purpose.CLICK, 1, 2, signed)

    assert (tokens.read_link_token(KEYS, Purpose.CLICK, token, sent) is not None) == (signed == sent)


@given(st.lists(st.sampled_from(["", ".", "..", "a/b", "%2F", "a b", "ü", "-", "\x00", "?", "#"]), max_size=4))
def test_values_come_back_from_the_path_and_leave_no_dot_or_empty_segment(given_values: list[str]) -> None:
    url = tokens.click_url("https://t.test", "T", given_values)
    path = url.removeprefix("https://t.test/c/T")

    assert tokens.values_of(path) == tuple(given_values)
    assert not {"", ".", ".."} & set(path.split("/")[1:])


@pytest.mark.parametrize("path", ["/", "/a", "//-a", "/-a/", "-a", "/-%FF"])
def test_a_malformed_path_has_no_values(path: str) -> None:
    assert tokens.values_of(path) is None


def test_old_keys_verify_and_the_newest_signs() -> None:
    before = Keys.parse(OLD)
    token = tokens.link_token(before, Purpose.CLICK, 1, 2)

    assert tokens.read_link_token(KEYS, Purpose.CLICK, token) == LinkToken(1, 2)
    assert tokens.link_token(KEYS, Purpose.CLICK, 1, 2) == tokens.link_token(Keys.parse(NEW), Purpose.CLICK, 1, 2)
    assert tokens.read_link_token(Keys.parse(NEW), Purpose.CLICK, token) is None
    assert tokens.read_link_token(Keys.parse("3:" + "33" * 32), Purpose.CLICK, token) is None


@given(jobs, st.data())
def test_a_return_path_survives_any_case_of_letters(job: int, data: st.DataObject) -> None:
    local, _, domain = tokens.return_path(KEYS, job, "bounce.y.test").partition("@")
    upper = data.draw(st.lists(st.booleans(), min_size=len(local), max_size=len(local)))
    folded = "".join(c.upper() if up else c for c, up in zip(local, upper, strict=True))

    assert domain == "bounce.y.test"
    assert len(local) <= 64
    assert tokens.read_return_path(KEYS, folded) == job


@given(jobs, st.integers(2, 41), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_no_changed_return_path_is_accepted(job: int, position: int, letter: str) -> None:
    local = tokens.return_path(KEYS, job, "y.test").partition("@")[0]
    changed = local[:position] + letter + local[position + 1 :]

    assert tokens.read_return_path(KEYS, changed) == (job if changed == local else None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no key"),
        ("16:" + "00" * 32, "line 1"),
        ("1:abcd", "line 1"),
        (f"{OLD}\n{OLD}", "line 2: id 3 stands there twice"),
    ],
)
def test_a_bad_keys_file_is_refused_in_one_line_without_the_secret(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        Keys.parse(text, "keys/tracking.keys")

    assert str(caught.value).startswith("keys/tracking.keys: ")
    assert "abcd" not in str(caught.value)
    assert "1111" not in str(caught.value)


def test_keys_show_no_secret() -> None:
    assert "1111" not in repr(KEYS)
