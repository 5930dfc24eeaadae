"""`mtad form apply|list|snippet`: where people sign up."""

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mtad.base.errors import InputError
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.consent.forms import Shown, apply_form, list_forms

app = typer.Typer(help="Where people sign up, and confirm that it was them.", no_args_is_help=True)


@app.command("apply")
def apply_(
    file: Annotated[Path, typer.Argument(help="The form's TOML file.")],
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a form, or give it a new version; the same file again changes nothing."""
    applied = shell.run(config, lambda _, pool: apply_form(pool, file, getpass.getuser()))
    if as_json:
        shell.print_json(applied)
    else:
        shell.out.print(f"form {applied.name}: {applied.did}, version {applied.version}", highlight=False)


@app.command("list")
def list_(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Every form: its address, and how many were asked and confirmed."""
    nothing = "There is no form yet; `mtad form apply FILE.toml` makes one."
    shell.show(shell.run(config, list_forms), _table, nothing=nothing, as_json=as_json)


def _table(rows: list[Shown]) -> Table:
    table = Table(box=None)
    for heading in ("form", "stream", "version", "address"):
        table.add_column(heading)
    for heading in ("waiting", "confirmed"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.name, row.stream, str(row.version), row.address, f"{row.waiting:,}", f"{row.confirmed:,}")
    return table


@app.command()
def snippet(
    name: Annotated[str, typer.Argument(help="The form.")],
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print the HTML of a form for a page of your own; its looks are yours."""
    rows: list[Shown] = shell.run(config, list_forms)
    for row in rows:
        if row.name == name:
            if as_json:
                shell.print_json({"name": name, "address": row.address, "html": row.snippet})
            else:
                print(row.snippet)
            return
    others = ", ".join(row.name for row in rows) or "none"
    raise InputError(f"form {name!r} is unknown; there are: {others}; `mtad form apply FILE.toml` makes one")
