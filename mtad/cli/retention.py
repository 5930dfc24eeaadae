"""`mtad retention`: how long what is kept."""

import typer
from rich.table import Table

from mtad.base.config import load_config
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.ops import retention

app = typer.Typer(help="How long what is kept.", no_args_is_help=True)


@app.command("show")
def show(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Every kind of data, how long it is kept, and what ends it."""
    privacy = load_config(config).privacy
    rows = [
        {"data": kind.data, "kept": getattr(privacy, kind.term, kind.term), "then": kind.then, "by": kind.sweep}
        for kind in retention.KINDS
    ]
    if as_json:
        shell.print_json(rows)
        return
    table = Table("data", "kept", "then", "by", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row.values())
    shell.out.print(table)


@app.command("apply")
def apply(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Remove now what is older than its term; the housekeeper does the same every hour."""
    done = shell.run(config, lambda loaded, pool: retention.apply(pool, loaded))
    if as_json:
        shell.print_json(done)
        return
    for swept in done:
        shell.out.print(f"{swept.removed:>10,}  {swept.sweep}", highlight=False)
