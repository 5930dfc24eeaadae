"""`mtad warmup`."""

import typer
from rich.markup import escape
from rich.table import Table

from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.ops.warmup import Progress, progress

app = typer.Typer()


@app.command()
def warmup(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """How far sources that are being warmed up have come with each provider, and what holds them back."""

    async def work(loaded: Config, pool: Pool) -> list[Progress]:
        async with pool.acquire() as conn:
            return await progress(conn, loaded)

    nothing = "no source is being warmed up: none has a table [source.warmup]"
    shell.show(shell.run(config, work), _table, nothing=nothing, as_json=as_json)


def _table(rows: list[Progress]) -> Table:
    table = Table(box=None)
    for heading in ("source", "provider", "day"):
        table.add_column(heading)
    for heading in ("step", "allowed", "used", "refused", "complaints"):
        table.add_column(heading, justify="right")
    table.add_column("held back")
    for row in rows:
        table.add_row(
            row.source, row.provider, str(row.day or "-"), f"{row.step}/{row.steps}",
            "no limit" if row.allowed is None else f"{row.allowed:,}", f"{row.used:,}", f"{row.refused:,}",
            str(row.complaints), escape(row.held),
        )  # fmt: skip
    return table
