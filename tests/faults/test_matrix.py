"""Whatever a server does wrong at any stage, each mail has the right outcome, and the next ones go on.

Three mails go to one server, one session at a time; it does one thing wrong, once, and is
polite before and after. The table matrix.txt says what is written down about the mail that
met it, at which attempt; the others are always delivered at their first.
"""

import ssl
from pathlib import Path

import pytest

from tests.faults.office import story_of
from tests.wire.peer import POLITE, Peer

# A cell takes milliseconds; one that waits for ever has no time to wait for.

FAULTS = {
    "4xx": "450 4.0.0 later",
    "5xx": "550 5.0.0 never",
    "421": "421 4.0.0 bye CLOSE",
    "close": "CLOSE",
    "reset": "RESET",
    "hang": "HANG",
    "slow": "250 2.0.0 at last, but octet by octet SLOW",
    "garbage": "garbage",
    "long": "250 " + "x" * 2000,
}
STAGES = ("CONNECT", "EHLO", "STARTTLS", "TLS", "MAIL", "RCPT", "DATA", "BODY", "DOT", "RSET", "QUIT")
WAYS = {
    "pipelined": ("PIPELINING", "ENHANCEDSTATUSCODES"),
    "stepwise": (),
    "chunked": ("PIPELINING", "CHUNKING"),
}
DELIVERED = "delivered 1: 250 2.0.0 queued as 1"


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
    word = "SLOW" if (stage, fault) == ("BODY", "slow") else FAULTS[fault]
    # The first chunk of a session waits for the answers to MAIL and RCPT, like DATA.
    script = {stage: [POLITE[stage], word] if way == "chunked" and stage != "RSET" else [word]}
    if (stage, fault) == ("EHLO", "5xx"):
        script["HELO"] = [word]
    if stage == "RSET":
        script["RCPT"] = ["550 5.1.1 nobody"]
    context = tls if stage in ("STARTTLS", "TLS") else None
    async with Peer(script, extensions=WAYS[way], tls=context) as peer:
        story = await story_of(peer, 3, big=stage == "BODY")

    met, *others = (2, 3) if stage == "RSET" else (2, 1, 3) if way == "chunked" else (1, 2, 3)
    assert (peer.connections, round(story.seconds), "; ".join(story.rows[met])) == expected
    assert all(story.rows[mail][-1] == DELIVERED for mail in others)
    assert all(row == "released" for mail in others for row in story.rows[mail][:-1])
    ends = [rows[-1] for rows in story.rows.values()]
    doubts = sum(end.startswith("doubt") for end in ends)
    assert len(peer.messages) - doubts <= ends.count(DELIVERED) <= len(peer.messages)
