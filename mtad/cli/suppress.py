"""`mtad suppress import|list|add|release`: who gets no mail, whatever else is known."""

import getpass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from engine.service import release
from mtad.audience import store
from mtad.audience.service import import_suppressions, suppress_listed
from mtad.audience.suppressions import REASONS, Scope, key_of, suppression
from mtad.base.db import in_transaction
from mtad.base.errors import InputError
from mtad.cli import shell

app = typer.Typer(help="Who gets no mail: addresses and domains.", no_args_is_help=True)

Targets = Annotated[list[str], typer.Argument(metavar="ADDRESS|@DOMAIN…", show_default=False)]


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="With a column email (and reason), or one address or domain a line.")],
    *,
    encoding: Annotated[str, typer.Option(help="Of a file that is not Unicode, e.g. cp1252.")] = "",
    as_json: shell.JsonOption = False,
    config: shell.ConfigOption = shell.DEFAULT_CONFIG,
) -> None:
    """Suppress everybody in a file, known or not; what is no address stands in FILE.rejects.csv."""
    done = shell.run(config, lambda _, pool: import_suppressions(pool, file, encoding=encoding))
    if as_json:
        shell.print_json(done)
        return
    shell.out.print(
        f"{done.file}: {done.rows:,} read, {done.suppressed:,} newly suppressed", soft_wrap=True, markup=False
    )
    if done.rejects:
        shell.out.print(f"{done.rejects}: {done.rejected:,} rows not taken", soft_wrap=True, markup=False)


@app.command("list")
def list_(*, as_json: shell.JsonOption = False, config: shell.ConfigOption = shell.DEFAULT_CONFIG) -> None:
    """What is suppressed now, and why."""
    shell.show(shell.run(config, lambda _, pool: store.open_suppressions(pool)), _table, as_json=as_json)


def _table(rows: list[store.Suppression]) -> Table:
    table = Table("address or domain", "mail", "reason", "source", "since", "until", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.key, row.scope, row.reason, escape(row.source), _day(row.created), _day(row.until))
    return table


@app.command("add")
def add(
    targets: Targets,
    *,
    scope: Annotated[str, typer.Option(help="all mail, or marketing.")] = "all",
    reason: Annotated[str, typer.Option(help=f"{', '.join(REASONS)}.")] = "manual",
    as_json: shell.JsonOption = False,
    config: shell.ConfigOption = shell.DEFAULT_CONFIG,
) -> None:
    """No mail to these any more, from the moment this returns."""
    if reason not in REASONS:
        raise InputError(f"--reason {reason}: write {', '.join(REASONS)}")
    by = f"operator:{getpass.getuser()}"
    checked = _scope(scope)
    try:
        rows = [suppression(target, reason, by, checked) for target in targets]
    except ValueError as error:
        raise InputError(str(error)) from None
    done = shell.run(config, lambda _, pool: in_transaction(pool, lambda conn: suppress_listed(conn, rows)))
    if as_json:
        shell.print_json({"given": len(rows), "suppressed": done})
    else:
        shell.out.print(f"{done:,} newly suppressed, {len(rows) - done:,} already were")


@app.command("release")
def release_(
    targets: Targets, *, as_json: shell.JsonOption = False, config: shell.ConfigOption = shell.DEFAULT_CONFIG
) -> None:
    """Allow mail to these again; what was skipped meanwhile is not sent."""
    try:
        keys = [key_of(target) for target in targets]
    except ValueError as error:
        raise InputError(str(error)) from None
    by = getpass.getuser()
    done = shell.run(config, lambda _, pool: in_transaction(pool, lambda conn: release(conn, keys, by)))
    if as_json:
        shell.print_json({"given": len(keys), "released": done})
    else:
        shell.out.print(f"{done:,} released")


def _scope(text: str) -> Scope:
    match text:
        case "all" | "marketing":
            return text
    raise InputError(f"--scope {text}: write all or marketing")


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at else ""
