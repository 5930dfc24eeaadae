"""The commands: what they print, and their exit codes."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mtad.base.clock import SystemClock
from mtad.base.db import Connection, Pool
from mtad.base.errors import InputError
from mtad.cli.answers import register, watch
from mtad.cli.answers_view import plain
from mtad.cli.shell import out
from tests.rows import START, Program, Rows

Mtad = Callable[..., Any]


@pytest.fixture
def mtad(database_url: str, tmp_path: Path) -> Mtad:
    """Runs one command in a thread of its own, for commands have their own event loop."""
    config = tmp_path / "mtad.toml"
    config.write_text(f'domain = "example.com"\n[database]\nurl = "{database_url}"\n')
    app, program_app = typer.Typer(), typer.Typer()
    register(app, program_app)
    app.add_typer(program_app, name="program")

    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, [*arguments, "-c", str(config)]))

    return run


async def small_world(rows: Rows) -> Program:
    program = await rows.program("news", mails=1)
    ann, bob = await rows.contact("ann@y.test"), await rows.contact("bob@y.test")
    job = await rows.mail(program, ann, "delivered", reply="250 [red]ok[/red]")
    await rows.hit("click", ann, job, program.links[0][0])
    await rows.mail(program, bob, "skipped", "unsubscribed")
    await rows.tally(program, enrolled=2, delivered=1, skipped__unsubscribed=1)
    return program


async def test_audit_prints_the_sum_and_exits_0(rows: Rows, mtad: Mtad) -> None:
    await small_world(rows)

    result = await mtad("audit", "news")

    assert result.exit_code == 0
    assert "it adds up" in result.stdout


async def test_audit_of_a_program_with_a_hole_exits_1_and_names_it(rows: Rows, mtad: Mtad) -> None:
    program = await small_world(rows)
    lost = await rows.enrol(program, await rows.contact("lost@y.test"))

    text, written = await mtad("audit", "news"), await mtad("audit", "news", "--json")

    assert text.exit_code == written.exit_code == 1
    assert f"1 enrolled, but neither queued nor in the ledger: job {lost}" in text.stdout
    assert json.loads(written.stdout)["holes"] == [{"fault": "lost", "count": 1, "ids": [lost]}]


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["audit", "news"], {"adds_up", "enrolled", "delivered", "skipped", "pending", "entered", "running", "ended"}),
        (["contact", "show", "ann@y.test"], {"contact", "identities", "suppressions", "streams", "history"}),
        (["why", "ann@y.test"], {"address", "at", "programs"}),
        (["program", "status", "news"], {"delivered", "skipped", "pending", "rate", "seconds_left", "done"}),
        (
            ["program", "report", "news"],
            {"opened", "clicked", "links", "engaged", "unsubscribed", "bounced", "machine"},
        ),
    ],
)
async def test_each_question_answers_in_text_and_in_json(
    rows: Rows, mtad: Mtad, arguments: list[str], keys: set[str]
) -> None:
    await small_world(rows)

    text, written = await mtad(*arguments), await mtad(*arguments, "--json")

    assert text.exit_code == written.exit_code == 0, text.output + written.output
    assert "news" in text.stdout
    assert keys <= set(json.loads(written.stdout))


async def test_a_status_that_is_not_on_a_terminal_is_printed_once(rows: Rows, mtad: Mtad) -> None:
    await small_world(rows)

    result = await mtad("program", "status", "news")

    assert result.stdout.count("2 of 2") == 1


async def test_a_state_is_set_by_name_and_told_with_its_reason(rows: Rows, mtad: Mtad) -> None:
    await small_world(rows)

    result = await mtad("contact", "set-state", "ann@y.test", "sales", "resting", "--reason", "asked us to", "--json")

    expected = {"address": "ann@y.test", "stream": "sales", "before": "new", "state": "resting"}
    assert json.loads(result.stdout) == expected, result.output
    shown = await mtad("contact", "show", "ann@y.test", "--json")
    assert "asked us to" in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "x"],
        ["program", "status", "x"],
        ["program", "report", "x"],
        ["contact", "show", "x@y.z"],
        ["contact", "set-state", "ann@y.test", "x", "active", "--reason", "because"],
        ["contact", "set-state", "x@y.z", "sales", "active", "--reason", "because"],
    ],
)
async def test_what_is_unknown_is_a_problem_with_exit_65(rows: Rows, mtad: Mtad, arguments: list[str]) -> None:
    result = await mtad(*arguments)

    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 65
    assert "\n" not in str(result.exception)


async def test_text_from_strangers_is_no_markup_and_moves_no_cursor(rows: Rows, mtad: Mtad) -> None:
    await small_world(rows)

    result = await mtad("contact", "show", "ann@y.test")

    assert "250 [red]ok[/red]" in result.stdout
    assert plain("a\x1b[2Jb\r").plain == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}"


class Settling(SystemClock):
    """A clock in whose second sleep the last mail is settled."""

    def __init__(self, finish: Callable[[], Awaitable[None]]) -> None:
        self.slept = 0
        self._finish = finish

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        if self.slept == 2:
            await self._finish()


async def test_a_live_status_ends_when_the_program_is_done(rows: Rows, pool: Pool, conn: Connection) -> None:
    program = await small_world(rows)
    cat = await rows.contact("cat@y.test")
    job = await rows.enrol(program, cat)
    await rows.tally(program, enrolled=1)
    await rows.queued(program, cat, job, due=START)

    async def settle() -> None:
        await conn.execute("delete from job where id = $1", job)
        await rows.tally(program, delivered=1)

    clock = Settling(settle)
    with out.capture() as captured:
        await watch(pool, "news", clock)

    assert clock.slept == 2
    assert "3 of 3" in captured.get()
