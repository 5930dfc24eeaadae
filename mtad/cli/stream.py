"""`mtad stream apply|list|show`."""

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.errors import InputError
from mtad.base.source import weights_of
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.compose import store
from mtad.compose.apply import Applied, apply_stream

app = typer.Typer(help="Lines of mail: who sends, and by which rules.", no_args_is_help=True)


@app.command("apply")
def apply_(
    file: Annotated[Path, typer.Argument(help="The stream's TOML file.")],
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a stream, or give it a new version; the same file again changes nothing."""

    async def work(loaded: Config, pool: Pool) -> Applied:
        return await apply_stream(pool, file, getpass.getuser(), pools=weights_of(loaded.source, loaded.pool))

    applied = shell.run(config, work)
    if as_json:
        shell.print_json(applied)
    else:
        shell.out.print(f"stream {applied.name}: {applied.did}, version {applied.version}", highlight=False)


@app.command("list")
def list_(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Every stream."""

    async def work(_: Config, pool: Pool) -> list[store.StreamRow]:
        async with pool.acquire() as conn:
            return await store.streams(conn)

    rows = shell.run(config, work)
    if as_json:
        shell.print_json(rows)
        return
    table = Table(box=None)
    for heading in ("stream", "from", "tracking", "version"):
        table.add_column(heading)
    table.add_column("subscribed", justify="right")
    for row in rows:
        definition = row.definition
        table.add_row(row.name, escape(definition.from_), definition.tracking, str(row.version), f"{row.subscribed:,}")
    shell.out.print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The stream.")],
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    as_json: JsonOption = False,
) -> None:
    """One stream: sender identity and policy."""

    async def work(_: Config, pool: Pool) -> store.StreamRow:
        async with pool.acquire() as conn:
            row = await store.stream_by_name(conn, name)
            if row is None:
                others = ", ".join(await store.stream_names(conn)) or "none"
                raise InputError(f"there is no stream {name!r} (there is: {others})")
            return row

    row = shell.run(config, work)
    if as_json:
        shell.print_json(row)
        return
    table = Table(box=None, show_header=False, title=f"{name}, version {row.version}", title_justify="left")
    for key, value in row.definition.to_json().items():
        if key == "policy":
            for rule, setting in value.items():
                table.add_row(f"policy.{rule}", str(setting))
        else:
            table.add_row(key, escape(str(value)))
    table.add_row("made", f"{row.made:%Y-%m-%d %H:%M:%S} UTC by {row.made_by}")
    shell.out.print(table)
