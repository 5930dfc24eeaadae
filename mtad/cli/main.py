"""`mtad`: all groups of commands, and what becomes of an error."""

import sys
from importlib import import_module
from typing import ClassVar

import typer
import typer.core
import typer.main

from mtad.base.errors import Problem

# What typer raises for a command line that it cannot read; it has no public name for it.
UsageError: type[BaseException] = typer.BadParameter.__mro__[1]


def _brought(module: str) -> tuple[typer.Typer, typer.Typer]:
    """What a module of this package brings into `mtad`, and into `mtad program`."""
    root, program = typer.Typer(), typer.Typer()
    found = import_module(f"mtad.cli.{module}")
    match module:
        case "control" | "answers":
            found.register(root, program)
        case "program":
            program.add_typer(found.app)
        case "server" | "demo" | "simulate" | "queue" | "hold" | "purge" | "standing" | "live" | "warmup":
            root.add_typer(found.app)
        case _:
            root.add_typer(found.app, name=module)
    return root, program


class _Lazy(typer.core.TyperGroup):
    """A group that imports a module when one of its commands is asked for.

    All of them took 0.4 s to import: what sends a test mail, draws a report and runs
    the daemon was waited for by every command.
    """

    modules: ClassVar[dict[str, str]]  # command → module
    place: ClassVar[int]  # of what the module brings for us

    def list_commands(self, _: typer.Context) -> list[str]:  # type: ignore[override]  # typer's own Context
        return list(self.modules)

    def get_command(self, _: typer.Context, name: str) -> typer.core.TyperCommand | None:  # type: ignore[override]
        if name not in self.commands:
            # Of a name that nobody has, typer looks for similar ones among all.
            for module in {self.modules[name]} if name in self.modules else set(self.modules.values()):
                self.commands.update(typer.main.get_group(_brought(module)[self.place]).commands)
        return self.commands.get(name)  # type: ignore[return-value]  # as above


# Command → module, in the order in which somebody meets them, under the headings of `mtad --help`.
_PANELS = {
    "Installation": {
        "demo": "demo",
        "lab": "lab",
        "init": "server",
        "check": "server",
        "migrate": "server",
        "run": "server",
        "config": "config",
        "dkim": "dkim",
        "keys": "keys",
    },
    "People": {
        "stream": "stream",
        "contacts": "contacts",
        "suppress": "suppress",
        "form": "form",
        "contact": "answers",
        "audience": "audience",
        "simulate": "simulate",
        "events": "events",
        "retention": "retention",
    },
    "Programs": {
        "program": "program",  # itself below, its commands in _Program
        "pause": "control",
        "audit": "answers",
        "why": "answers",
    },
    "Delivery": {
        "queue": "queue",
        "top": "live",
        "trace": "live",
        "suspend": "hold",
        "resume": "hold",
        "suspensions": "hold",
        "limits": "standing",
        "purge": "purge",
        "rebind": "purge",
        "orders": "standing",
        "warmup": "warmup",
        "automation": "automation",
    },
}


class _Root(_Lazy):
    modules: ClassVar[dict[str, str]] = {
        name: module for commands in _PANELS.values() for name, module in commands.items()
    }
    place: ClassVar[int] = 0

    def get_command(self, context: typer.Context, name: str) -> typer.core.TyperCommand | None:  # type: ignore[override]
        found = super().get_command(context, name)
        if found is not None:
            found.rich_help_panel = next((panel for panel, commands in _PANELS.items() if name in commands), None)
        return found


class _Program(_Lazy):
    modules: ClassVar[dict[str, str]] = {
        "apply": "program",
        "list": "program",
        "preview": "program",
        "test": "program",
        "start": "control",
        "pause": "control",
        "resume": "control",
        "cancel": "control",
        "forecast": "control",
        "status": "answers",
        "report": "answers",
    }
    place: ClassVar[int] = 1


app = typer.Typer(
    name="mtad",
    cls=_Root,
    help="A mail server whose audience contracts and expands while it delivers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(
    typer.Typer(cls=_Program, help="What is sent: campaigns, series, reactivations.", no_args_is_help=True),
    name="program",
)


def _print_version(asked: bool) -> None:
    if asked:
        # 30 ms, for one who asks.
        from importlib.metadata import version  # noqa: PLC0415

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
