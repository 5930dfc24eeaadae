"""Bytes for the wire, read back by the email package of the standard library."""

import email
import email.policy
import email.utils
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.compose import mime
from mtad.compose.faults import ContentFault

# Surrogates too: a value may hold half a pair.
anything = st.text(alphabet=st.characters(), max_size=120)
printable = anything.map(lambda text: re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "", text))


def seen(text: str) -> str:
    """What arrives of a text: half a pair is no character."""
    return text.encode("utf-8", "replace").decode()


def lines_of(wire: bytes) -> list[bytes]:
    """The lines of a wire format; fails on a bare CR or LF and on NUL."""
    assert b"\0" not in wire
    lines = wire.split(b"\r\n")
    assert all(b"\r" not in line and b"\n" not in line for line in lines)
    return lines


def header(name: str, value: bytes) -> str:
    message = email.message_from_bytes(name.encode() + b": " + value + b"\r\n\r\n", policy=email.policy.default)
    assert not message.defects
    return str(message[name])


@given(printable)
def test_a_subject_arrives_as_it_was(text: str) -> None:
    value = mime.unstructured("Subject", text)

    assert header("Subject", value) == seen(text)
    assert all(len(line) <= 76 for line in lines_of(b"Subject: " + value))


@given(st.text(alphabet=" abcdefgh=?", min_size=80, max_size=400))
def test_a_long_ascii_subject_is_folded(text: str) -> None:
    value = mime.unstructured("Subject", text)

    assert header("Subject", value) == text
    assert all(line.strip() and len(line) <= 76 for line in lines_of(b"Subject: " + value))


@given(anything, st.sampled_from("\r\n\0\x0b\x1b\x7f\x85\u2028"), anything)
def test_a_control_character_in_a_header_is_refused(before: str, control: str, after: str) -> None:
    with pytest.raises(ContentFault, match=r"^content:Subject: control character$"):
        mime.unstructured("Subject", before + control + after)
    with pytest.raises(ContentFault):
        mime.mailbox("From", before + control + after, "a@example.com")
    with pytest.raises(ContentFault):
        mime.mailbox("To", "", f"a{control}@example.com")


@given(printable.map(lambda text: re.sub(r"\s+", " ", text).strip()))
def test_a_display_name_arrives_as_it_was(display: str) -> None:
    value = mime.mailbox("From", display, "news@example.com")

    message = email.message_from_bytes(b"From: " + value + b"\r\n\r\n", policy=email.policy.default)
    address = message["From"].addresses[0]
    assert address.addr_spec == "news@example.com"
    assert len(message["From"].addresses) == 1
    assert all(len(line) <= 78 for line in lines_of(b"From: " + value))
    # Between two encoded words the email package of 3.11 keeps a blank in a display name, against RFC 2047.
    assert address.display_name.replace(" ", "") == seen(display).replace(" ", "")


@given(anything, st.integers(0, 3))
def test_a_body_arrives_as_it_was(text: str, remembered: int) -> None:
    quoted = mime.Quoted(remembered)
    body = quoted.encoded(text)

    wire = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + body
    message = email.message_from_bytes(wire, policy=email.policy.default)
    wanted = seen(text).replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n") + "\n"
    assert message.get_payload(decode=True).decode().replace("\r\n", "\n") == wanted  # type: ignore[union-attr]
    assert all(len(line) <= 76 for line in lines_of(body))
    assert quoted.encoded(text) == body


@given(anything, anything)
def test_parts_cannot_end_one_another(txt: str, html: str) -> None:
    boundary = b"=_mtad.7"
    quoted = mime.Quoted(0)
    hostile = "\n--=_mtad.7--\n"
    body = mime.alternative(
        boundary,
        [(b"text/plain", quoted.encoded(txt + hostile)), (b"text/html", quoted.encoded(html + hostile + txt))],
    )

    message = email.message_from_bytes(b'Content-Type: multipart/alternative; boundary="=_mtad.7"\r\n\r\n' + body)
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert [part.get_content_type() for part in parts if not isinstance(part, str)] == ["text/plain", "text/html"]
    lines_of(body)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1)), st.integers(-12, 12))  # noqa: DTZ001 - zoned below
def test_a_date_is_the_same_moment(at: datetime, hours: int) -> None:
    moment = at.replace(microsecond=0, tzinfo=timezone(timedelta(hours=hours)))

    assert email.utils.parsedate_to_datetime(mime.date(moment).decode()) == moment.astimezone(UTC)
