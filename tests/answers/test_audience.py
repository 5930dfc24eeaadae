"""`mtad audience`: sizes of any day equal a count over what each person's history says of that day."""

import asyncio
import getpass
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mtad.base.db import Connection
from mtad.base.errors import InputError
from mtad.cli.audience import app
from mtad.cli.audience_view import audience_view
from mtad.ops.answers.audience import audience
from tests.rows import START, Rows

DAYS = 10
DAY = timedelta(days=1)
NEXT = {
    "active": ["engaged", "cooling"],
    "engaged": ["active", "cooling"],
    "cooling": ["trying", "reactivated"],
    "trying": ["cooling", "resting", "reactivated"],
    "reactivated": ["active"],
    "resting": ["reactivated"],
}

Person = list[tuple[datetime, str]]  # when which state began; '' is outside, 'left' the end


async def add(rows: Rows, dice: random.Random, number: int) -> Person:
    """One person with a history over 20 days, written as rows; what it was."""
    ago = sorted((dice.uniform(0.01, 2 * DAYS) for _ in range(dice.randrange(1, 7))), reverse=True)
    times = [START - days * DAY for days in ago]
    contact = await rows.contact(f"p{number}@y.test")
    stream = rows.streams["sales"]
    state, story = "new", [(times[0], "new")]
    await rows.conn.execute("update subscription set changed = $2 where contact_id = $1", contact, times[0])
    if len(times) > 1:
        state = "active"
        story.append((times[1], state))
        await rows.conn.execute(
            "insert into engagement (stream_id, contact_id, since, round_from, first_sent) values ($1, $2, $3, $3, $3)",
            stream, contact, times[1],
        )  # fmt: skip
    for at in times[2:]:
        before, state = state, dice.choice(NEXT[state])
        story.append((at, state))
        made = await log(rows.conn, stream, contact, before, state, at)
        if dice.random() < 0.2:  # the same was logged before, of another time, and taken back
            wrong = await log(rows.conn, stream, contact, before, "resting", at - DAY / 2)
            await log(rows.conn, stream, contact, before, "resting", at - DAY / 2, takes_back=wrong)
        assert made
    if state != "new":
        await rows.conn.execute("update engagement set state = $2 where contact_id = $1", contact, state)
    match dice.randrange(6):
        case 0:
            left = times[-1] + (START - times[-1]) / 2
            await rows.conn.execute(
                "update subscription set status = 'unsubscribed', changed = $2 where contact_id = $1", contact, left
            )
            # When somebody came who has left is not kept.
            story = [(START - 100 * DAY, story[0][1]), *story[1:], (left, "left")]
        case 1:
            left = times[-1] + (START - times[-1]) / 2
            await rows.conn.execute(
                "insert into suppression (key, scope, reason, source, created)"
                " values ($1, 'all', 'manual', 'test', $2)", f"p{number}@y.test", left,
            )  # fmt: skip
            story.append((left, "left"))
    return story


async def log(
    conn: Connection, stream: int, contact: int, before: str, to: str, at: datetime, takes_back: int | None = None
) -> int:
    made: int = await conn.fetchval(
        "insert into transition (stream_id, contact_id, from_state, to_state, why, fact, at, takes_back)"
        " values ($1, $2, $3, $4, 'threshold', 'test', $5, $6) returning id",
        stream, contact, before, to, at, takes_back,
    )  # fmt: skip
    return made


async def test_sizes_of_every_day_are_those_of_the_histories(rows: Rows) -> None:
    dice = random.Random(7)
    await rows.stream()
    people = [await add(rows, dice, number) for number in range(150)]

    found = await audience(rows.conn, "sales", DAYS)

    assert len(found.history) == DAYS + 1
    for day, sizes in enumerate(found.history):
        moment = found.at - (DAYS - day) * DAY
        states = [[state for at, state in story if at <= moment] for story in people]
        assert Counter(sizes) == Counter(then[-1] for then in states if then), day
    now = Counter(found.history[-1])
    assert found.mailed == sum(now[state] for state in ("new", "active", "engaged", "reactivated"))
    assert now["left"] == found.sizes["unsubscribed"] + found.sizes["suppressed"] > 0


async def test_cool_downs_that_end_are_counted_by_day_and_those_that_are_over_apart(rows: Rows) -> None:
    program = await rows.program()
    for number, days in enumerate((-3, -1, 0.5, 0.7, 12.2, 29.9, 31)):
        contact = await rows.contact(f"p{number}@y.test")
        await rows.engagement(program, contact, "cooling")
        await rows.conn.execute(
            "update engagement set cool_until = $2 where contact_id = $1", contact, START + days * DAY
        )
    gone = await rows.contact("gone@y.test", subscribed="unsubscribed")
    await rows.engagement(program, gone, "cooling")
    await rows.conn.execute("update engagement set cool_until = $2 where contact_id = $1", gone, START + DAY / 2)

    found = await audience(rows.conn, "sales", 7)

    assert found.returns.waiting == 2
    assert {day: n for day, n in enumerate(found.returns.ending) if n} == {0: 2, 12: 1, 29: 1}
    assert "No reactivation program runs that would take them in" in shown(found)


async def test_what_is_held_is_told_with_its_reason(rows: Rows) -> None:
    await rows.stream()
    await rows.conn.execute(
        "insert into brake (stream_id, stopped, silent, allowed, reachable) values ($1, now(), 1204, 500, 10000)",
        rows.streams["sales"],
    )
    await rows.conn.execute(
        "insert into provider_hold values ($1, 'gmail', now(), now(), 'of 9 mails to gmail none', null),"
        " ($1, 'gmx', now(), now(), 'of 9 mails to gmx none', now())",
        rows.streams["sales"],
    )

    text = shown(await audience(rows.conn, "sales", 7))

    assert "Held by the provider since" in text
    assert "Of 9 mails to gmail none." in text
    assert "gmx" not in text
    assert "Held by the brake since" in text
    assert "1,204 of 10,000 would become Inactive at once; at most 500 may in a day." in text
    assert "mtad audience release sales" in text


def shown(found: Any) -> str:
    console = Console(width=80, file=None)
    with console.capture() as captured:
        console.print(audience_view(found))
    text = captured.get()
    assert max(map(len, text.splitlines())) <= 80
    return " ".join(text.split())


Mtad = Callable[..., Awaitable[Any]]


@pytest.fixture
def mtad(database_url: str, tmp_path: Path) -> Mtad:
    config = tmp_path / "mtad.toml"
    config.write_text(f'domain = "example.com"\n[database]\nurl = "{database_url}"\n')

    async def run(*arguments: object) -> Any:
        typed = [*map(str, arguments), "-c", str(config)]
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, typed))

    return run


async def test_the_brake_is_released_once_by_name(rows: Rows, mtad: Mtad) -> None:
    await rows.stream()
    await rows.conn.execute(
        "insert into brake (stream_id, stopped, silent) values ($1, now(), 1204)", rows.streams["sales"]
    )

    first, again, unknown = [await mtad("release", name) for name in ("sales", "sales", "sails")]

    assert "it was 1,204 people" in first.stdout
    assert again.stdout == "sales: the brake does not hold.\n"
    assert "stream 'sails' is unknown" in str(unknown.exception)
    assert (await audience(rows.conn, "sales", 7)).holds == []
    assert await rows.conn.fetchval("select released_by from brake") == getpass.getuser()


async def test_the_command_prints_text_json_and_a_plot(rows: Rows, mtad: Mtad, tmp_path: Path) -> None:
    await rows.stream()
    await add(rows, random.Random(1), 1)

    text, written = await mtad("sales"), await mtad("sales", "--json", "--days", 7, "--svg", tmp_path / "plot.svg")
    unknown = await mtad("sails")

    assert text.exit_code == written.exit_code == 0, text.output + written.output
    assert "Expected returns" in text.stdout
    assert len(json.loads(written.stdout)["history"]) == 8
    assert len(list(ET.parse(tmp_path / "plot.svg").iter("{http://www.w3.org/2000/svg}polygon"))) == 8
    assert isinstance(unknown.exception, InputError)
    assert "stream 'sails' is unknown; there are: sales" in str(unknown.exception)
