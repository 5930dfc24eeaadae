"""`mtad stream apply|list|show|history`."""

import asyncio
import getpass
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from mtad.base.config import Config
from mtad.base.db import Connection, Pool
from mtad.base.errors import InputError
from mtad.base.source import weights_of
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.cli.stream_view import effect_lines, history_view, plan_view, stream_view
from mtad.compose import store
from mtad.compose.apply import Applied, Plan, apply_stream, plan_stream
from mtad.ops.answers.programs import known_stream

app = typer.Typer(help="Lines of mail: who sends, and by which rules.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The stream.")]


@app.command("apply")
def apply_(
    file: Annotated[Path, typer.Argument(help="The stream's TOML file.")],
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and to how many; no more.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, whomever it concerns.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a stream, or give it a new version; the same file again changes nothing.

    New rules that concern people who are on the stream already are applied after a preview only.
    """

    async def work(loaded: Config, pool: Pool) -> tuple[Plan, Applied | None]:
        pools = weights_of(loaded.source, loaded.pool)
        plan = await plan_stream(pool, file, pools=pools)
        if dry_run:
            return plan, None
        if plan.effect.concerns_anybody and not yes:
            if as_json or not shell.asks():
                raise InputError(f"{file}: {' '.join(effect_lines(plan.effect))} Look with --dry-run, apply with --yes")
            shell.out.print(plan_view(plan))
            if not await asyncio.to_thread(typer.confirm, "Apply it?"):
                return plan, None
        return plan, await apply_stream(pool, file, getpass.getuser(), pools=pools)

    plan, applied = shell.run(config, work)
    if as_json:
        done = applied or Applied(plan.name, plan.version, plan.did)
        shell.print_json({**msgspec.to_builtins(done), "applied": applied is not None, "effect": plan.effect})
    elif applied:
        sooner = f"; {shell.count(applied.mails, 'mail')} that waited may go sooner" if applied.mails else ""
        shell.out.print(f"stream {applied.name}: {applied.did}, version {applied.version}{sooner}", highlight=False)
    elif dry_run:
        shell.out.print(plan_view(plan))
    else:
        shell.out.print("Nothing was changed.")


@app.command("list")
def list_(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Every stream."""
    shell.show(shell.ask(config, store.streams), _table, as_json=as_json)


def _table(rows: list[store.StreamRow]) -> Table:
    table = Table(box=None)
    for heading in ("stream", "from", "tracking", "version"):
        table.add_column(heading)
    table.add_column("subscribed", justify="right")
    for row in rows:
        definition = row.definition
        table.add_row(row.name, escape(definition.from_), definition.tracking, str(row.version), f"{row.subscribed:,}")
    return table


@app.command()
def show(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """One stream: sender identity and policy, as its file would say them, defaults included."""
    versions = _versions(name, config)
    if as_json:
        shell.print_json(versions[0])
    else:
        shell.out.print(stream_view(name, versions))


@app.command()
def history(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Every version of a stream: who changed what, and when."""
    shell.show(_versions(name, config), partial(history_view, name), as_json=as_json)


def _versions(name: str, config: Path) -> list[store.StreamVersion]:
    """The newest first."""

    async def history_of(conn: Connection) -> list[store.StreamVersion]:
        await known_stream(conn, name)
        return await store.stream_history(conn, name)

    return shell.ask(config, history_of)
