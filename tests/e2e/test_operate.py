"""What an operator does to a running daemon: looks at it, holds mail back, lets it go, takes it out."""

import asyncio
import json
import sys
from typing import Any

import pytest

from mtad.base.errors import Problem
from tests.e2e.place import Place


async def lines(place: Place, *arguments: str) -> list[Any]:
    """What a command prints, a document a line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mtad", *arguments, "--json", "-c", str(place.installation.config_path),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    return [json.loads(line) for line in said.splitlines()]


PEOPLE = [f"p{n}@reader.test" for n in range(1500)]


@pytest.mark.parametrize("place", [30], indirect=True)
async def test_every_question_is_answered_and_a_suspension_holds_while_mail_is_sent(place: Place) -> None:
    config = place.installation.config_path
    config.write_text(config.read_text().replace("domain =", 'log_outcomes = "on"\ndomain =', 1))
    await place.installation.stop()
    await place.installation.start()
    await place.import_people([*PEOPLE, "q@other.test"])
    await place.apply_campaign("news")
    await place.mtad("program", "start", "news")
    await place.sink.wait_for(5)

    trace, top = await asyncio.gather(lines(place, "trace", "reader.test", "--most", "30"), place.mtad("top"))
    assert any(line["text"].startswith("RCPT TO:<p") for line in trace)
    assert any(line["who"] == "server" and line["text"].startswith("250") for line in trace)
    assert "Hello" not in str(trace)
    assert len(top["workers"]) == 2
    assert all(worker["lag"] is not None for worker in top["workers"])
    assert top["rates"]["delivered"] > 0

    held = await place.mtad("suspend", "site", "reader.test", "--why", "the test says so")
    before = len(place.sink.messages)
    queue = await place.mtad("queue", "reader.test")
    [site] = queue["sites"]
    assert site["lanes"][0]["suspended"][0]["reason"] == "the test says so"
    why = await place.mtad("why", PEOPLE[-1])
    assert why["programs"]
    with pytest.raises(Problem, match="say --yes"):
        await place.mtad("purge", "campaign", "news")
    await place.mtad("purge", "site", held["key"], "--yes")
    await place.mtad("resume", "site", "reader.test")
    await place.until_over("news")

    found = await place.mtad("audit", "news")
    assert found["adds_up"]
    assert found["skipped"]["purged"] > 100
    assert found["delivered"] <= before + 30
    logged = [json.loads(line) for line in place.read("mtad.log").splitlines() if line.startswith('{"type"')]
    assert len([line for line in logged if line["type"] == "Delivery"]) == found["delivered"]
    assert "p1@" not in str(logged)
