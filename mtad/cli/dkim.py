"""mtad dkim: which keys sign, whether DNS has them, and the next one."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from mtad.base.clock import SystemClock
from mtad.base.config import load_config
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.ops.published import published
from mtad.ops.rotation import rotate as make_next
from mtad.ops.rotation import standings
from mtad.wire.resolver import Resolver

app = typer.Typer(help="The keys that sign, and how they are changed.", no_args_is_help=True)


@app.command("list")
def list_(config_path: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Each key: whether it signs, and what DNS has of it."""
    config = load_config(config_path)
    rows = standings(config, datetime.now(UTC))

    async def seen() -> list[str]:
        resolver = Resolver.from_config(config, SystemClock())
        return [(await published(row.name, row.record, resolver)).value for row in rows]

    dns = asyncio.run(seen())
    if as_json:
        shell.print_json([msgspec.to_builtins(row) | {"dns": found} for row, found in zip(rows, dns, strict=True)])
        return
    table = Table(box=None)
    for heading in ("domain", "selector", "algorithm", "streams", "source", "starts", "state", "DNS"):
        table.add_column(heading)
    for row, found in zip(rows, dns, strict=True):
        starts = str(row.starts or "")
        streams, source = escape(", ".join(row.streams)) or "all", row.source or "all"
        table.add_row(row.domain, row.selector, row.algorithm, streams, source, starts, row.state, found)
    shell.out.print(table)


@app.command()
def rotate(
    selector: Annotated[str, typer.Argument(help="The selector of the key that is to be replaced.")],
    config_path: ConfigOption = DEFAULT_CONFIG,
    *,
    new: Annotated[str, typer.Option("--new", help="The next selector. Default: m and the month, as init does.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make the next key of this kind; print what to publish and to change, and when."""
    now = datetime.now(UTC)
    made = make_next(load_config(config_path), selector, new or f"m{now:%Y%m%d}", now)
    if as_json:
        shell.print_json({"key": str(made.key), "steps": made.steps})
        return
    print(f"wrote {made.key}")
    for step in made.steps:
        print(f"\n{step.day}  {step.text}")
        for record in step.records:
            print(f"\n{record.zone_line()}")
        if step.lines:
            print(f"\n{step.lines}", end="")
