"""What we write is one command a line and one message a transaction, whatever the data holds."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.compose.mime import quoted
from mtad.smtp import encode

# Pieces that make dots, line ends and their lookalikes meet often.
pieces = st.sampled_from([b".", b"..", b"\r\n", b"\r\n.", b"\r\n..", b"a", b"\xc3\xa4", b" ", b"end"])
clean_messages = st.lists(pieces, min_size=1, max_size=30).map(b"".join)
any_messages = st.lists(
    st.one_of(pieces, st.sampled_from([b"\r", b"\n", b"\0"]), st.binary(max_size=3)), max_size=12
).map(b"".join)


def unstuffed(wire: bytes) -> bytes:
    """What a receiver makes of DATA, RFC 5321 section 4.5.2, line by line."""
    assert wire.endswith(b".\r\n")
    lines = wire.removesuffix(b".\r\n").split(b"\r\n")
    return b"\r\n".join(line.removeprefix(b".") for line in lines)


def is_clean(message: bytes) -> bool:
    return bool(message) and not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", message)


@given(clean_messages)
@example(b".")
@example(b"\r\n")
@example(b"\r\n.\r\n")
@example(b".\r\n.\r\n")
def test_unstuffing_gives_the_message(message: bytes) -> None:
    whole = message if message.endswith(b"\r\n") else message + b"\r\n"

    assert unstuffed(encode.data(message)) == whole


@given(any_messages)
@example(b"a\r\n.\r\n")
def test_a_chunk_is_what_the_receiver_makes_of_data_and_refused_where_that_is(message: bytes) -> None:
    try:
        wire = encode.data(message)
    except ValueError:
        with pytest.raises(ValueError, match=r"empty|bare CR or LF|NUL"):
            encode.chunk(message)
    else:
        assert encode.chunk(message) == unstuffed(wire)


@given(any_messages, st.text(".\r\n a="))
@example(b".\r\n.", ".\n.")
@example(b"a\n", "")
def test_where_a_body_is_known_to_be_safe_nothing_else_is_said_or_refused(head: bytes, text: str) -> None:
    head += b"\r\n"
    message = head + quoted(text).encode()
    for say in (encode.data, encode.chunk):
        try:
            wanted = say(message)
        except ValueError:
            with pytest.raises(ValueError, match=r"bare CR or LF|NUL"):
                say(message, len(head))
        else:
            assert say(message, len(head)) == wanted


@given(clean_messages)
@example(b".")
@example(b"\r\n.\r\n")
@example(b"\r\n.\r\n.\r\n..\r\n")
def test_the_final_dot_stands_once_and_at_the_end(message: bytes) -> None:
    on_the_wire = b"DATA\r\n" + encode.data(message)

    assert len(re.findall(rb"(?=\r\n\.\r\n)", on_the_wire)) == 1
    assert on_the_wire.endswith(b"\r\n.\r\n")


@given(any_messages)
def test_a_message_is_written_if_and_only_if_its_lines_are_clean(message: bytes) -> None:
    try:
        wire = encode.data(message)
    except ValueError:
        assert not is_clean(message)
    else:
        assert is_clean(message)
        assert is_clean(wire)


@pytest.mark.parametrize(
    "ending",
    [
        b"\n.\n",
        b"\r.\r",
        b"\r.\n",
        b"\n.\r",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\n.\r\r\n",
        b"\r\r\n.\r\r\n",
        b"\0",
    ],
)
def test_ends_of_data_that_some_server_believes_in_are_refused(ending: bytes) -> None:
    message = b"Subject: a\r\n\r\nbody" + ending + b"MAIL FROM:<smuggled@x.test>\r\n"

    with pytest.raises(ValueError, match=r"bare CR or LF|NUL"):
        encode.data(message)


def test_an_empty_message_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        encode.data(b"")


@given(st.text(max_size=40))
def test_an_address_is_one_argument_or_refused(address: str) -> None:
    for command in (encode.rcpt, lambda a: encode.mail(a, size=None, eight_bit=False, utf8=False), encode.ehlo):
        try:
            line = command(address).decode()
        except ValueError:
            continue
        assert line.endswith("\r\n")
        argument = line[:-2]
        assert argument.splitlines() == [argument]
        assert not any(ord(char) < 32 or ord(char) == 127 for char in argument)
        assert line.count("<") == line.count(">") <= 1
        assert len(line.split(" ")) == 2


@pytest.mark.parametrize(
    "address",
    ["a@x.test\r\nDATA", "a@x.test> SIZE=1", "a@x.test\0", "a b@x.test", "<a@x.test", "a\x85@x.test", "a\u2028@x.test"],
)
def test_injected_arguments_are_refused(address: str) -> None:
    for command in (
        encode.rcpt,
        lambda a: encode.mail(a, size=1, eight_bit=False, utf8=False),
        encode.ehlo,
        encode.helo,
    ):
        with pytest.raises(ValueError, match="cannot stand"):
            command(address)


def test_commands_are_spelled_as_the_rfcs_say() -> None:
    assert encode.mail("", size=None, eight_bit=False, utf8=False) == b"MAIL FROM:<>\r\n"
    assert (
        encode.mail("b@us.test", size=99, eight_bit=True, utf8=True)
        == b"MAIL FROM:<b@us.test> SIZE=99 BODY=8BITMIME SMTPUTF8\r\n"
    )
    assert encode.rcpt("ä@x.test") == "RCPT TO:<ä@x.test>\r\n".encode()
    assert encode.ehlo("mail.us.test") == b"EHLO mail.us.test\r\n"
    assert encode.helo("mail.us.test") == b"HELO mail.us.test\r\n"
    assert encode.bdat(1234) == b"BDAT 1234 LAST\r\n"
