"""Faults are read as an operator writes them, and come in turn."""

import itertools

import pytest

from mtad.lab.faults import FAULTS, Answer, Script, read_answer, read_faults


@pytest.mark.parametrize(
    ("text", "answer", "wire"),
    [
        ("450 4.2.0 later", Answer("450 4.2.0 later"), b"450 4.2.0 later\r\n"),
        ("250-one\n250 two", Answer("250-one\n250 two"), b"250-one\r\n250 two\r\n"),
        ("421 bye CLOSE", Answer("421 bye", "CLOSE"), b"421 bye\r\n"),
        ("RESET", Answer("", "RESET"), b""),
        ("250 o RAW", Answer("250 o", "RAW"), b"250 o"),
        ("250 ok LATE=590", Answer("250 ok", late=590), b"250 ok\r\n"),
    ],
)
def test_an_answer_is_text_and_what_comes_of_it(text: str, answer: Answer, wire: bytes) -> None:
    assert read_answer(text) == answer
    assert answer.wire == wire


def test_faults_of_a_stage_come_one_after_the_other_and_then_the_sink_is_polite() -> None:
    script = Script(read_faults(["rcpt:4xx*2", "RCPT:polite*1", "rcpt:551 5.1.6 moved*1", "dot:close"]))
    said = [script.take("RCPT") for _ in range(5)]
    always = [script.take("DOT") for _ in range(50)]

    later = read_answer(FAULTS["4xx"])
    assert said == [later, later, None, Answer("551 5.1.6 moved"), None]
    assert always == [Answer("", "CLOSE")] * 50
    assert script.take("MAIL") is None


@pytest.mark.parametrize(
    "text", ["rcpt", "rcpt:", "rcp:4xx", "rcpt:6xx", "rcpt:4xx*", "rcpt:4xx*x", ":4xx", "dot:Reset"]
)
def test_a_fault_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"none of|write STAGE:FAULT") as raised:
        read_faults([text])

    assert repr(text) in str(raised.value)


def test_a_stage_that_is_none_would_never_come() -> None:
    with pytest.raises(ValueError, match="'CONNECT' is none of the stages BANNER EHLO"):
        Script({"CONNECT": itertools.repeat("close")})
