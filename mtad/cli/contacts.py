"""`mtad contacts import`: people from a file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mtad.audience.service import Options, Summary, import_contacts
from mtad.audience.values import Type
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.errors import InputError
from mtad.cli import shell

app = typer.Typer(help="People: import them from files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `import` a command of its own while it is the only one."""


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="A header row, then a contact a row.")],
    *,
    stream: Annotated[str, typer.Option(help="Subscribe them to this stream.", metavar="NAME")] = "",
    basis: Annotated[
        str, typer.Option(help="By what right: consent, existing_customer or contract.", metavar="BASIS")
    ] = "",
    source: Annotated[str, typer.Option(help="Where the permission comes from.", metavar="TEXT")] = "",
    encoding: Annotated[
        str, typer.Option(help="Of a file that is neither UTF-8 nor UTF-16 with a mark, e.g. cp1252.")
    ] = "",
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", help="Type of a new attribute: text, number, date, bool.", metavar="NAME=TYPE"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do it all, then undo it.")] = False,
    as_json: shell.JsonOption = False,
    config: shell.ConfigOption = shell.DEFAULT_CONFIG,
) -> None:
    """Add and update the contacts of a file; what cannot be taken stands in FILE.rejects.csv, with the reason."""
    options = Options(
        stream=stream,
        basis=basis,
        source=source,
        encoding=encoding,
        types=dict(_typed(text) for text in type_ or ()),
        dry_run=dry_run,
    )

    with _bar() as bar:
        task = bar.add_task("reading", total=None)

        def progress(stage: str, done: int, of: int | None) -> None:
            bar.update(task, description=stage, completed=done, total=of)

        async def work(config: Config, pool: Pool) -> Summary:
            return await import_contacts(pool, file, options, now=datetime.now(UTC), progress=progress, config=config)

        summary = shell.run(config, work)
    if as_json:
        shell.print_json(summary)
    else:
        _show(summary)


def _typed(text: str) -> tuple[str, Type]:
    name, _, kind = text.partition("=")
    try:
        return name, Type(kind)
    except ValueError:
        raise InputError(f"--type {text}: write NAME=text, number, date or bool") from None


def _bar() -> Progress:
    """On stderr, and only on a terminal."""
    return Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=shell.err,
        transient=True,
        disable=not shell.err.is_terminal,
    )


def _show(summary: Summary) -> None:
    would_be = "would be " if summary.dry_run else ""
    figures = [
        (summary.made, f"contacts {would_be}made"),
        (summary.changed, f"contacts {would_be}changed"),
        (summary.unchanged, "contacts known and unchanged"),
        (summary.subscribed, f"{would_be}subscribed"),
        (summary.inactive, "of them Inactive, for their last sign is too old"),
        (summary.kept, "keep the permission they have"),
        (summary.refused, "rows not taken"),
    ]
    _say(f"{summary.rows:>10,}  rows in {summary.file}")
    for number, what in figures:
        if number:
            _say(f"{number:>10,}  {what}")
    if summary.attributes:
        _say("attributes: " + ", ".join(f"{name} ({kind})" for name, kind in summary.attributes.items()))
    if summary.rejects:
        _say(f"{summary.rejects}: " + ", ".join(f"{count:,} {why}" for why, count in summary.reasons.items()))
    if summary.dry_run:
        _say("dry run: nothing was changed")


def _say(line: str) -> None:
    shell.out.print(line, soft_wrap=True, markup=False, highlight=False)
