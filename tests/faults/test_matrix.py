"""Whatever a server does wrong at any stage, each mail has the right outcome, and the next ones go on.

Three mails go to the lab's sink, one session at a time; it does one thing wrong, once, and is
polite before and after. The table matrix.txt says what is written down about the mail that
met it, at which attempt; the others are always delivered at their first.
"""

import ssl
from pathlib import Path

import pytest

from mtad.lab.faults import FAULTS, POLITE
from mtad.lab.sink import ACCEPTED, Sink
from tests.faults.office import story_of

# A cell takes milliseconds; one that waits for ever has no time to wait for.

STAGES = ("BANNER", "EHLO", "STARTTLS", "TLS", "MAIL", "RCPT", "DATA", "BODY", "DOT", "RSET", "QUIT")
WAYS = {
    "pipelined": ("PIPELINING", "ENHANCEDSTATUSCODES"),
    "stepwise": (),
    "chunked": ("PIPELINING", "CHUNKING"),
}
DELIVERED = f"delivered 1: {ACCEPTED}"


def read_table() -> dict[tuple[str, str, str], tuple[int, int, str]]:
    """By way, stage and fault: connections, seconds, what is written down."""
    table: dict[tuple[str, str, str], tuple[int, int, str]] = {}
    for line in (Path(__file__).parent / "matrix.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            way, stage, fault, connections, seconds, text = line.split(None, 5)
            for one in ("pipelined", "stepwise") if way == "both" else (way,):
                table[one, stage, fault] = int(connections), int(seconds), text
    return table


TABLE = read_table()


def test_the_table_has_every_fault_at_every_stage() -> None:
    assert {(stage, fault) for way, stage, fault in TABLE if way == "pipelined"} == {
        (stage, fault) for stage in STAGES for fault in FAULTS
    }


@pytest.mark.parametrize(("way", "stage", "fault"), TABLE)
async def test_fault(way: str, stage: str, fault: str, tls: ssl.SSLContext) -> None:
    expected = TABLE[way, stage, fault]
    # The first chunk of a session waits for the answers to MAIL and RCPT, like DATA.
    script = {stage: [POLITE, fault] if way == "chunked" and stage != "RSET" else [fault]}
    if (stage, fault) == ("EHLO", "5xx"):
        script["HELO"] = [fault]
    if stage == "RSET":
        script["RCPT"] = ["550 5.1.1 nobody"]
    context = tls if stage in ("STARTTLS", "TLS") else None
    async with Sink(faults=script, extensions=WAYS[way], tls=context) as sink:
        story = await story_of(sink.port, 3, big=stage == "BODY")

    met, *others = (2, 3) if stage == "RSET" else (2, 1, 3) if way == "chunked" else (1, 2, 3)
    assert (sink.sessions, round(story.seconds), "; ".join(story.rows[met])) == expected
    came = {copy.recipient: number for number, copy in enumerate(sink.messages, 1)}
    assert all(story.rows[mail][-1] == DELIVERED.format(number=came[f"p{mail}@x.test"]) for mail in others)
    assert all(row == "released" for mail in others for row in story.rows[mail][:-1])
    # A connection is used again until the fault, and after it this or another one is; no mail comes by two.
    assert len(came) == len(sink.messages)
    for copy in sink.messages:
        mail = int(copy.recipient[1 : copy.recipient.index("@")])
        outcome = story.rows[mail][-1].split()[0]
        assert outcome in ("delivered", "doubt")
        if outcome == "delivered":
            assert copy.session == (1 if mail < met else sink.sessions)
