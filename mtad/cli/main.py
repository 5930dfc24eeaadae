"""`mtad`: all groups of commands, and what becomes of an error."""

import sys
from importlib.metadata import version

import typer
import typer.core

from mtad.base.errors import Problem
from mtad.cli import answers, contacts, control, demo, program, server, stream, suppress

# In the order in which somebody meets them.
ORDER = (
    "init", "check", "migrate", "run", "stream", "contacts", "suppress", "program", "pause",
    "audit", "contact", "why", "demo",
)  # fmt: skip

# What typer raises for a command line that it cannot read; it has no public name for it.
UsageError: type[BaseException] = typer.BadParameter.__mro__[1]


class _Ordered(typer.core.TyperGroup):
    def list_commands(self, _: typer.Context) -> list[str]:  # type: ignore[override]  # typer's own Context
        return sorted(self.commands, key=ORDER.index)


app = typer.Typer(
    name="mtad",
    cls=_Ordered,
    help="A mail server whose audience contracts and expands while it delivers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(server.app)
app.add_typer(contacts.app, name="contacts")
app.add_typer(suppress.app, name="suppress")
app.add_typer(stream.app, name="stream")
app.add_typer(program.app, name="program")
control.register(app, program.app)
answers.register(app, program.app)
app.add_typer(demo.app)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"mtad {version('mtad')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks."),
    asked_version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version."
    ),
) -> None:
    """Options before the command."""


def main() -> None:
    """Run a command; a Problem, or a command line that is none, is one line on stderr and an exit code."""
    try:
        sys.exit(app(standalone_mode=False))
    except UsageError as error:
        _explain(error)
    except Problem as problem:
        if "--debug" in sys.argv:
            raise
        sys.stderr.write(f"mtad: {problem}\n")
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _explain(error: BaseException) -> None:
    """Say what is wrong with the command line; a group without a command has shown its help already."""
    said, where = str(error.format_message()).strip(), error.ctx  # type: ignore[attr-defined]
    if said:
        command = where.command_path if where else "mtad"
        sys.stderr.write(f"mtad: {' '.join(said.split()).rstrip('.')}; see `{command} -h`\n")
    sys.exit(2)
