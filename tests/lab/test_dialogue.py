"""The sink judges strictly what a client writes."""

import pytest

from mtad.lab import dialogue
from mtad.lab.sink import EXTENSIONS, Sink
from tests.lab.talk import talk

HELLO = "EHLO me\r\n"
START = f"{HELLO}MAIL FROM:<a@x.test> SIZE=9\r\n"
MAIL = f"{START}RCPT TO:<b@y.test>\r\n"
DIALOGUES = {
    "nothing before EHLO": ("MAIL FROM:<a@x.test>\r\n", "503"),
    "no recipient before a sender": (f"{HELLO}RCPT TO:<b@y.test>\r\n", "250 503"),
    "one message at a time": (f"{START}MAIL FROM:<a@x.test>\r\n", "250 250 503"),
    "and after RSET another": (f"{START}RSET\r\nMAIL FROM:<>\r\n", "250 250 250 250"),
    "a sender in brackets": (f"{HELLO}MAIL FROM:a@x.test\r\n", "250 501"),
    "a recipient in brackets": (f"{START}RCPT TO: <b@y.test>\r\n", "250 250 501"),
    "no message without a recipient": (f"{START}DATA\r\n", "250 250 503"),
    "no TLS where there is none": (f"{HELLO}STARTTLS\r\n", "250 500"),
    "what is asked for in passing": (
        "HELO me\r\nnoop\r\nHELP\r\nVRFY a\r\nDANCE\r\nQUIT\r\n",
        "250 250 214 252 500 221",
    ),
    "dots are unstuffed": (f"{MAIL}DATA\r\n..a\r\n.b\r\n.\r\n", "250 250 250 354 250"),
    "a message may be empty": (f"{MAIL}DATA\r\n.\r\n", "250 250 250 354 250"),
    "lines end in CR LF": (f"{MAIL}DATA\r\na\nb\r\n.\r\n", "250 250 250 354 554"),
    "lines have 998 octets": (f"{MAIL}DATA\r\n{'x' * 998}\r\n.\r\n", "250 250 250 354 250"),
    "and no more": (f"{MAIL}DATA\r\n{'x' * 999}\r\n.\r\n", "250 250 250 354 554"),
    "chunks are put together": (f"{MAIL}BDAT 3\r\n.a\nBDAT 2 LAST\r\n\r\n", "250 250 250 250 554"),
    "a last chunk may be empty": (f"{MAIL}BDAT 4\r\n.a\r\nBDAT 0 LAST\r\n", "250 250 250 250 250"),
    "a chunk for nobody is read": (f"{START}BDAT 6 LAST\r\nRSET\r\nNOOP\r\n", "250 250 503 250"),
    "a chunk has a size": (f"{MAIL}BDAT all LAST\r\n", "250 250 250 501"),
}
KEPT = {
    "dots are unstuffed": b".a\r\nb\r\n",
    "a message may be empty": b"",
    "lines have 998 octets": b"x" * 998 + b"\r\n",
}
KEPT["a last chunk may be empty"] = b".a\r\n"


@pytest.mark.parametrize("case", DIALOGUES)
async def test_a_dialogue_has_the_right_answers(case: str) -> None:
    said, codes = DIALOGUES[case]
    async with Sink(extensions=(*EXTENSIONS, "CHUNKING")) as sink:
        heard = await talk(sink.port, said.encode())

    assert heard == ["220", *codes.split()]
    assert [copy.message for copy in sink.messages] == ([KEPT[case]] if case in KEPT else [])


async def test_what_has_no_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue, "MOST_LINE", 100)
    monkeypatch.setattr(dialogue, "MOST_MESSAGE", 1000)
    async with Sink() as sink:
        heard = [
            await talk(sink.port, endless)
            for endless in (b"x" * 101, MAIL.encode() + b"DATA\r\n" + b"x" * 1001, MAIL.encode() + b"BDAT 1001\r\n")
        ]

    ready = ["220", "250", "250", "250"]
    assert heard == [["220", "500"], [*ready, "354", "500"], [*ready, "552"]]
    assert sink.messages == []
