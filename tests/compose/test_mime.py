"""Bytes for the wire, read back by the email package of the standard library."""

import binascii
import email
import email.policy
import email.utils
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.compose import mime
from mtad.compose.faults import ContentFault
from mtad.dkim.canon import ended, relaxed_body
from mtad.smtp import encode

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


# Long lines, blanks and what quoted-printable has signs for, more often than chance gives them.
texts = st.lists(st.one_of(anything, st.text(" =\t.\r\nab", max_size=90), st.just("x" * 74)), max_size=5).map("".join)


def unquoted(text: str) -> str:
    """What a recipient's program makes of quoted text; the standard library judges."""
    return binascii.a2b_qp(text).decode().replace("\r\n", "\n")


@given(st.lists(texts, max_size=4))
def test_texts_that_are_quoted_apart_say_the_same_together(pieces: list[str]) -> None:
    body = mime.ended("".join(map(mime.quoted, pieces)))

    wanted = "".join(seen(piece).replace("\r\n", "\n").replace("\r", "\n") for piece in pieces)
    assert unquoted(body) == (wanted if wanted.endswith("\n") else wanted + "\n")
    assert all(len(line) <= 76 for line in lines_of(body.encode("ascii")))
    assert body.endswith("\r\n")


@given(st.lists(texts, max_size=4))
def test_quoted_text_is_in_the_canonical_form_of_dkim(pieces: list[str]) -> None:
    body = mime.ended("".join(map(mime.quoted, pieces))).encode("ascii")

    assert relaxed_body(body) == ended(body)
    assert relaxed_body(b"--x--\r\n" + body + b"--x--\r\n") == b"--x--\r\n" + body + b"--x--\r\n"


@given(st.lists(texts, max_size=4))
@example([".", ".a", "a\n.b", "x" * 75 + ".", "é.\n."])
def test_smtp_finds_nothing_to_change_or_to_refuse_in_quoted_text(pieces: list[str]) -> None:
    body = mime.ended("".join(map(mime.quoted, pieces))).encode("ascii")

    assert encode.data(body) == body + b".\r\n"


@given(anything)
def test_a_body_arrives_as_it_was(text: str) -> None:
    body = mime.ended(mime.quoted(text)).encode()

    wire = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + body
    message = email.message_from_bytes(wire, policy=email.policy.default)
    wanted = seen(text).replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n") + "\n"
    assert message.get_payload(decode=True).decode().replace("\r\n", "\n") == wanted  # type: ignore[union-attr]


@given(anything, anything)
def test_parts_cannot_end_one_another(txt: str, html: str) -> None:
    boundary = "=_mtad.7"
    hostile = "\n--=_mtad.7--\n"
    parts = [("text/plain", txt + hostile), ("text/html", html + hostile + txt)]
    body = mime.alternative(boundary, [(kind, mime.ended(mime.quoted(text))) for kind, text in parts]).encode()

    message = email.message_from_bytes(b'Content-Type: multipart/alternative; boundary="=_mtad.7"\r\n\r\n' + body)
    found = message.get_payload()
    assert isinstance(found, list)
    assert [part.get_content_type() for part in found if not isinstance(part, str)] == ["text/plain", "text/html"]
    lines_of(body)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1)), st.integers(-12, 12))  # noqa: DTZ001 - zoned below
def test_a_date_is_the_same_moment(at: datetime, hours: int) -> None:
    moment = at.replace(microsecond=0, tzinfo=timezone(timedelta(hours=hours)))

    assert email.utils.parsedate_to_datetime(mime.date(moment).decode()) == moment.astimezone(UTC)
