"""`mtad program apply|list|preview|test`. Other files hang more commands into the same group."""

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mtad.base.errors import Problem
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.compose import store
from mtad.compose.apply import apply_program
from mtad.ops.answers.times import local
from mtad.ops.trial import made, try_out

app = typer.Typer(help="What is sent: campaigns, series, reactivations.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The program.")]
AsOption = Annotated[str | None, typer.Option("--as", help="The contact whose values to use; default: a stand-in.")]


@app.command("apply")
def apply_(
    file: Annotated[Path, typer.Argument(help="The program's TOML file; its messages are folders beside it.")],
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    move: Annotated[
        bool, typer.Option("--move", help="Have those on their way, and mail that waits, go on in the new version.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a program, or a new version of one, for who enters from now on; the same file again changes nothing."""
    applied = shell.run(config, lambda _, pool: apply_program(pool, file, getpass.getuser(), move=move))
    if as_json:
        shell.print_json(applied)
        return
    people, mails = shell.count(applied.people, "person", "people"), shell.count(applied.mails, "mail")
    moved = f", {people} and {mails} moved" if move and applied.did != "created" else ""
    shell.out.print(f"program {applied.name}: {applied.did}, version {applied.version}{moved}", highlight=False)


@app.command("list")
def list_(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Every program, the newest first."""
    shell.show(shell.ask(config, store.programs), _table, as_json=as_json)


def _table(rows: list[store.ProgramRow]) -> Table:
    table = Table(box=None)
    for heading in ("program", "kind", "stream", "status", "version", "created", "why"):
        table.add_column(heading)
    for row in rows:
        made = local(row.created)
        table.add_row(row.name, row.kind, row.stream, row.status, str(row.version), made, escape(row.why or ""))
    return table


@app.command()
def preview(
    name: Name,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    contact: AsOption = None,
    folder: Annotated[Path, typer.Option("--dir", help="Where to write the files.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Write each mail as NAME-STEP.html, .txt and .eml. Its links work and count for nobody."""
    mails = shell.run(config, lambda settings, pool: made(pool, settings, name, contact, None))
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for mail in mails:
            for suffix, content in (("html", mail.html), ("txt", mail.txt), ("eml", mail.eml)):
                if content is not None:
                    path = folder / f"{name}-{mail.node}.{suffix}"
                    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
                    written.append(path)
    except OSError as error:
        raise Problem(f"{error.filename}: {error.strerror}") from None
    if as_json:
        shell.print_json({"files": [str(path) for path in written]})
    else:
        for path in written:
            print(path)


@app.command("test")
def send_test(
    name: Name,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    to: Annotated[str, typer.Option("--to", help="The address that gets every mail of the program, now.")],
    contact: AsOption = None,
    source: Annotated[
        str, typer.Option("--source", help="The [[source]] that it leaves by. Default: the first of the stream's pool.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Send each mail once to an address of yours, for real; exit 1 when one is not taken."""
    results = shell.run(config, lambda settings, pool: try_out(pool, settings, name, contact, to, source))
    if as_json:
        shell.print_json(results)
    else:
        for result in results:
            verdict = "accepted" if result.accepted else "NOT ACCEPTED"
            print(f"{result.step}: {verdict} by {result.host or 'nobody'}, sent by {result.source}: {result.reply}")
    if not all(result.accepted for result in results):
        raise typer.Exit(1)
