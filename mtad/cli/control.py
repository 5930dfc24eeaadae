"""`mtad program start|pause|resume|cancel|forecast`, `mtad pause --all`."""

import getpass
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from engine.gate import sentence
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.errors import InputError
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
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

    async def work(settings: Config, pool: Pool) -> tuple[int, int] | None:
        program = await enqueue.schedule(pool, name)
        if program.starts and program.status == "scheduled" and await _is_later(pool, program.starts):
            return None
        columns = (TextColumn("queueing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=shell.err, transient=True, disable=not shell.err.is_terminal) as bar:
            task = bar.add_task("", total=None)
            async for done in enqueue.enqueue(pool, settings, name):
                bar.update(task, completed=done.seen, total=done.total)
        return await enqueue.started(pool, name)

    made = shell.run(config, work)
    if made is None:
        if as_json:
            shell.print_json({"program": name, "scheduled": True})
        else:
            shell.out.print(f"{name} is scheduled; a running `mtad run` starts it.")
        return
    queued, left_out = made
    if as_json:
        shell.print_json({"program": name, "queued": queued, "left_out": left_out})
    else:
        shell.out.print(f"{name}: {queued:,} mails queued, {left_out:,} left out.")


async def _is_later(pool: Pool, starts: object) -> bool:
    return bool(await pool.fetchval("select $1::timestamptz > now()", starts))


def pause(
    name: Name, config: ConfigOption = DEFAULT_CONFIG, *, why: Why = "by hand", as_json: JsonOption = False
) -> None:
    """Stop sending at once; entries and due times stand."""
    held = shell.run(config, lambda _, pool: enqueue.pause(pool, name, _signed(why)))
    _say(name, "paused", f"paused; {held:,} mails wait.", as_json=as_json)


def resume(name: Name, config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Go on after a pause; what is too late by now is not sent."""
    shell.run(config, lambda _, pool: enqueue.resume(pool, name))
    _say(name, "running", "goes on.", as_json=as_json)


def cancel(
    name: Name, config: ConfigOption = DEFAULT_CONFIG, *, why: Why = "by hand", as_json: JsonOption = False
) -> None:
    """End it for good: every waiting mail is skipped as cancelled."""
    shell.run(config, lambda _, pool: enqueue.cancel(pool, name, _signed(why)))
    _say(name, "cancelled", "cancelled; waiting mails end as skipped.", as_json=as_json)


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
    """Ask the gate about the whole audience, without sending or writing anything."""
    result = shell.run(config, lambda settings, pool: enqueue.forecast(pool, settings, name))
    if as_json:
        shell.print_json(msgspec.to_builtins(result))
        return
    table = Table(title=f"If {name} started now", title_justify="left")
    table.add_column("verdict")
    table.add_column("contacts", justify="right")
    table.add_column("because")
    table.add_row(
        "send", f"{result.send:,}", f"{result.untracked:,} without tracking consent" if result.untracked else ""
    )
    if result.deferred:
        table.add_row("defer", f"{result.deferred:,}", "")
    for reason, number in result.skipped.items():
        table.add_row(f"skip {reason}", f"{number:,}", sentence(reason))
    table.add_section()
    table.add_row("audience", f"{result.audience:,}", "")
    shell.out.print(table)


def _signed(why: str) -> str:
    return f"{why} ({getpass.getuser()})"


def _say(name: str, status: str, text: str, *, as_json: bool) -> None:
    if as_json:
        shell.print_json({"program": name, "status": status})
    else:
        shell.out.print(f"{name}: {text}")
