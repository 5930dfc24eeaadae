"""Replies are read the same however they arrive, and nothing a server says can hurt us."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.smtp.reply import MAX_LINE, MAX_REPLY, MAX_TEXT, NotSmtp, Reply, ReplyReader

STREAM = (
    b"220 mx.test ESMTP ready\r\n"
    b"250-mx.test greets you\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250 8BITMIME\r\n"
    b"250\r\n"
    b"550-5.1.1 The account that you tried to reach\r\n550 5.1.1 does not exist.\r\n"
    b"250 bare line feed\n"
    b"421 4.4.2 gr\xc3\xbc\xc3\x9fe \xff\x00\x1b\r\n"
)

lines = st.one_of(
    st.sampled_from(STREAM.splitlines(keepends=True)),
    st.binary(max_size=40).map(lambda line: line + b"\r\n"),
    st.integers(MAX_LINE - 20, MAX_LINE + 20).map(lambda n: b"250 " + b"x" * n + b"\r\n"),
    st.just((b"250-" + b"x" * 1000 + b"\r\n") * 35),
)


def read_all(chunks: list[bytes]) -> list[Reply | str]:
    """What a client sees; the last is the text of NotSmtp where it came to that."""
    reader = ReplyReader()
    seen: list[Reply | str] = []
    for chunk in chunks:
        reader.feed(chunk)
        try:
            while (reply := reader.next_reply()) is not None:
                seen.append(reply)
        except NotSmtp:
            return [*seen, "not SMTP"]
    return seen


def told(stream: bytes) -> list[tuple[int, str, list[str]]]:
    """The replies in a stream, all of each."""
    return [(reply.code, reply.enhanced, reply.lines) for reply in read_all([stream]) if isinstance(reply, Reply)]


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(at % (len(stream) + 1) for at in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(st.integers(0, 10_000), max_size=8), st.lists(lines, max_size=6).map(b"".join))
def test_replies_do_not_depend_on_how_bytes_arrive(cuts: list[int], tail: bytes) -> None:
    stream = STREAM + tail

    assert read_all(cut(stream, cuts)) == read_all([stream])


@given(st.lists(lines, max_size=4).map(b"".join))
def test_replies_do_not_depend_on_arriving_octet_by_octet(stream: bytes) -> None:
    assert read_all([stream[at : at + 1] for at in range(len(stream))]) == read_all([stream])


def test_a_reply_has_code_enhanced_code_and_lines() -> None:
    assert told(STREAM) == [
        (220, "", ["mx.test ESMTP ready"]),
        (250, "", ["mx.test greets you", "PIPELINING", "SIZE 10240000", "8BITMIME"]),
        (250, "", [""]),
        (550, "5.1.1", ["The account that you tried to reach", "does not exist."]),
        (250, "", ["bare line feed"]),
        (421, "4.4.2", ["grüße \ufffd??"]),
    ]


def test_the_text_is_one_line_with_the_codes_first() -> None:
    texts = [reply.text for reply in read_all([STREAM]) if isinstance(reply, Reply)]

    assert texts[3] == "550 5.1.1 The account that you tried to reach does not exist."
    assert texts[2] == "250"


@given(st.binary(max_size=200))
def test_text_can_be_logged_and_stored(garbage: bytes) -> None:
    for reply in read_all([b"550 " + garbage.replace(b"\n", b"") + b"\r\n"]):
        assert isinstance(reply, Reply)
        assert reply.text.isprintable()
        assert len(reply.text) <= MAX_TEXT


@pytest.mark.parametrize(
    ("text", "enhanced", "rest"),
    [
        ("5.1.1 no such user", "5.1.1", "no such user"),
        ("#5.1.0 Address rejected", "5.1.0", "Address rejected"),
        ("5.7.26: unauthenticated", "5.7.26", "unauthenticated"),
        ("4.2.2.1 is your address", "", "4.2.2.1 is your address"),
        ("3.1.1 no such class", "", "3.1.1 no such class"),
        ("5.1.1", "5.1.1", ""),
        ("no code 5.1.1", "", "no code 5.1.1"),
    ],
)
def test_enhanced_codes_are_found_where_they_belong(text: str, enhanced: str, rest: str) -> None:
    assert told(f"550 {text}\r\n".encode()) == [(550, enhanced, [rest])]


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"25\r\n",
        b"150 no such class\r\n",
        b"650 no such class\r\n",
        b"2500 four digits\r\n",
        b"250-begins\r\n251 ends otherwise\r\n",
        "٢٥٠ digits, but not ours\r\n".encode(),
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"x" * MAX_LINE,
        (b"250-" + b"x" * 1000 + b"\r\n") * (MAX_REPLY // 1000 + 1),
    ],
    ids=lambda stream: stream[:30].decode(errors="replace"),
)
def test_what_is_no_reply_is_refused(stream: bytes) -> None:
    assert read_all([stream]) == ["not SMTP"]


def test_the_longest_line_and_many_replies_are_read() -> None:
    longest = b"250 " + b"x" * (MAX_LINE - 6) + b"\r\n"

    assert len(read_all([longest * 100])) == 100


def test_a_reader_that_was_cleared_knows_nothing_of_before() -> None:
    reader = ReplyReader()
    reader.feed(b"250-first\r\n250 sec")
    assert reader.next_reply() is None
    assert reader.pending

    reader.clear()
    reader.feed(b"220 new\r\n")

    assert reader.next_reply() == Reply(220, (b"new",))
    assert not reader.pending
