"""`mtad`: all groups of commands, and what becomes of an error."""

import sys

import typer

from mtad.base.errors import Problem
from mtad.cli import answers, contacts, control, demo, program, server, stream, suppress

app = typer.Typer(
    name="mtad",
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


@app.callback()
def _root(*, debug: bool = typer.Option(False, "--debug", help="Show tracebacks.")) -> None:
    """Options before the command."""


def main() -> None:
    """Run a command; a Problem is one line on stderr and its exit code."""
    try:
        app(standalone_mode=True)
    except Problem as problem:
        if "--debug" in sys.argv:
            raise
        sys.stderr.write(f"mtad: {problem}\n")
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
