"""How long a slow server is waited for: as long as each stage says, and an hour at most."""

import logging

import pytest

from mtad.lab.sink import EXTENSIONS, Sink
from mtad.smtp.results import Stage
from mtad.smtp.waits import WAITS
from mtad.wire import connection
from tests.faults.office import story_of

CHUNKED = (*EXTENSIONS, "CHUNKING")


@pytest.mark.parametrize("extensions", [EXTENSIONS, CHUNKED, ()], ids=["pipelined", "chunked", "step by step"])
async def test_a_250_after_590_s_is_delivered_once(extensions: tuple[str, ...]) -> None:
    async with Sink(faults={"DOT": ["250 2.0.0 taken at last LATE=590"]}, extensions=extensions) as sink:
        story = await story_of(sink.port, 1)

    assert story.rows == {1: ["delivered 1: 250 2.0.0 taken at last"]}
    assert round(story.seconds) == 590
    assert len(sink.messages) == 1


async def test_a_server_that_is_slow_everywhere_is_waited_for_everywhere() -> None:
    polite = {"BANNER": "220 hi", "EHLO": "250-peer\n250 PIPELINING", "DATA": "354 go", "QUIT": "221 bye"}
    late = {name: WAITS[Stage[name]].seconds - 1 for name in ("MAIL", "RCPT", "DOT", *polite)}
    faults = {name: [f"{polite.get(name, '250 ok')} LATE={seconds}"] for name, seconds in late.items()}
    async with Sink(faults=faults) as sink:
        story = await story_of(sink.port, 1)

    assert story.rows == {1: ["delivered 1: 250 ok"]}
    assert round(story.seconds) == sum(late.values())


async def test_the_watchdog_ends_what_no_stage_ends_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "WATCHDOG", 400.0)
    async with Sink(faults={"MAIL": ["250 ok LATE=290"], "RCPT": ["250 ok LATE=290"]}) as sink:
        with caplog.at_level(logging.WARNING, "mtad.wire"):
            story = await story_of(sink.port, 2)

    assert story.rows[1] == ["later 1: ended by the watchdog after 400 s while waiting for the answer to RCPT"]
    assert story.rows[2][-1].startswith("delivered 1")
    assert [record.message for record in caplog.records if record.name == "mtad.wire"] == ["no progress"]
    assert sink.sessions == 2
