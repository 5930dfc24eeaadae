"""`mtad program start|pause|resume|cancel|forecast`, `mtad pause --all`."""

import getpass
from typing import Annotated

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from engine.gate import sentence
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.errors import InputError
from mtad.cli import shell
from mtad.cli.audience_view import returns_lines
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.ops.answers.audience import Returns, expected_returns
from mtad.ops.answers.programs import known_stream, program_by_name
from mtad.queue import enqueue

Name = Annotated[str, typer.Argument(help="The program.")]
Why = Annotated[str, typer.Option("--why", help="Stands in status and ledger.")]


def register(app: typer.Typer, program: typer.Typer) -> None:
    """Hang the commands into `mtad` and `mtad program`."""
    program.command("start")(start)
    program.command("pause")(pause)
    program.command("resume")(resume)
    program.command("cancel")(cancel)
    program.command("forecast")(forecast)
    app.command("pause")(pause_everything)


def start(name: Name, config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Queue the audience now, or at the start that the program's file names."""

    async def work(settings: Config, pool: Pool) -> tuple[bool, enqueue.Started] | None:
        program = await enqueue.schedule(pool, name)
        before = program.status == "running" and program.enqueued is not None
        if program.starts and program.status == "scheduled" and await _is_later(pool, program.starts):
            return None
        columns = (TextColumn("queueing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=shell.err, transient=True, disable=not shell.err.is_terminal) as bar:
            task = bar.add_task("", total=await enqueue.subscriptions(pool, program))
            async for done in enqueue.enqueue(pool, settings, name):
                bar.update(task, completed=done.seen)
        return before, await enqueue.started(pool, name)

    made = shell.run(config, work)
    if made is None:
        if as_json:
            shell.print_json({"program": name, "scheduled": True})
        else:
            shell.out.print(f"{name} is scheduled; a running `mtad run` starts it.")
        return
    before, did = made
    if as_json:
        counts = {"queued": did.queued, "left_out": did.left_out}
        shell.print_json({"program": name, "already": before, **counts, "comes_by": did.comes_by})
    elif before:
        shell.out.print(f"{name} runs already, nothing was done; see `mtad program status {name}`.", highlight=False)
    elif did.comes_by and not did.queued:
        shell.out.print(f"{name} runs; {did.comes_by}.", highlight=False)
    else:
        shell.out.print(f"{name}: {shell.count(did.queued, 'mail')} queued, {did.left_out:,} left out.")


async def _is_later(pool: Pool, starts: object) -> bool:
    return bool(await pool.fetchval("select $1::timestamptz > now()", starts))


def pause(
    name: Name, config: ConfigOption = DEFAULT_CONFIG, *, why: Why = "by hand", as_json: JsonOption = False
) -> None:
    """Stop sending at once; entries and due times stand."""
    held = shell.run(config, lambda _, pool: enqueue.pause(pool, name, _signed(why)))
    waits = f"{held:,} mails wait" if held != 1 else "1 mail waits"
    _say(name, "paused", f"paused; {waits}.", as_json=as_json)


def resume(name: Name, config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Go on after a pause, at the program's max_rate; what is too late by now is not sent."""
    shell.run(config, lambda _, pool: enqueue.resume(pool, name))
    _say(name, "running", "goes on.", as_json=as_json)


def cancel(
    name: Name,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    why: Why = "by hand",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """End it for good: every waiting mail is skipped as cancelled, and whoever is in it leaves. See also pause."""

    async def work(_: Config, pool: Pool) -> enqueue.Waiting:
        waiting = await enqueue.waiting(pool, name)
        mails, people = shell.count(waiting.mails, "mail"), shell.count(waiting.people, "person", "people")
        await shell.confirm(f"cancel program {name} for good, with {mails} that wait and {people} in it", yes=yes)
        await enqueue.cancel(pool, name, _signed(why))
        return waiting

    waiting = shell.run(config, work)
    if as_json:
        shell.print_json({"program": name, "status": "cancelled", **msgspec.structs.asdict(waiting)})
    else:
        people = shell.count(waiting.people, "person has", "people have")
        shell.out.print(
            f"{name}: cancelled; {shell.count(waiting.mails, 'mail')} will end as skipped, {people} left it.",
            highlight=False,
        )


def pause_everything(
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every running program.")] = False,
    why: Why = "by hand",
    as_json: JsonOption = False,
) -> None:
    """Stop all programs at once."""
    if not everything:
        raise InputError("say `mtad pause --all`, or `mtad program pause NAME` for one program")
    names = shell.run(config, lambda _, pool: enqueue.pause_all(pool, _signed(why)))
    if as_json:
        shell.print_json({"paused": names})
    else:
        shell.out.print(f"paused: {', '.join(names) or 'nothing was running'}")


def forecast(name: Name, config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Ask the gate about everybody who did not get it yet, without sending anything; and who may come back."""

    async def work(settings: Config, pool: Pool) -> tuple[enqueue.Forecast, Returns]:
        result = await enqueue.forecast(pool, settings, name)
        async with pool.acquire() as conn:
            stream = await known_stream(conn, (await program_by_name(conn, name)).stream)
            return result, await expected_returns(conn, stream)

    result, returns = shell.run(config, work)
    if as_json:
        shell.print_json({**msgspec.to_builtins(result), "returns": returns})
    else:
        shell.out.print(forecast_view(result, returns))


def forecast_view(result: enqueue.Forecast, returns: Returns) -> RenderableType:
    """Verdicts with their reasons, whom elasticity leaves alone, who may come back."""
    table = Table(title=f"If {result.program} started now", title_justify="left", box=None, pad_edge=False)
    table.add_column("verdict")
    table.add_column("contacts", justify="right")
    table.add_column("because")
    table.add_row("send", f"{result.send:,}", "")
    for reason, number in result.waits.items():
        table.add_row(f"defer {reason}", f"{number:,}", sentence(reason))
    for reason, number in result.skipped.items():
        table.add_row(f"skip {reason}", f"{number:,}", sentence(reason))
    table.add_row("audience", f"{result.audience:,}", "", style="bold")
    lines = [f"Expected returns: {' '.join(returns_lines(returns))}"]
    if result.comes_by:
        lines.insert(0, f"{result.comes_by.capitalize()}.")
    if result.untracked:
        lines.insert(0, f"{result.untracked:,} without tracking consent: elasticity will not act on them.")
    return Group(table, Text(), *(Text(line) for line in lines))


def _signed(why: str) -> str:
    return f"{why} ({getpass.getuser()})"


def _say(name: str, status: str, text: str, *, as_json: bool) -> None:
    if as_json:
        shell.print_json({"program": name, "status": status})
    else:
        shell.out.print(f"{name}: {text}")
