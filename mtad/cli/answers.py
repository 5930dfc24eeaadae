"""The questions: audit, contact show, why, program status, program report."""

from typing import Annotated

import typer
from rich.live import Live

from mtad.base.clock import Clock, SystemClock
from mtad.base.db import Pool
from mtad.cli import answers_view as view
from mtad.cli import persons, shell, state
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption, out, run
from mtad.ops.answers.person import show
from mtad.ops.answers.progress import Pace, measured_progress, progress
from mtad.ops.answers.report import report
from mtad.ops.answers.why import why
from mtad.ops.audit import audit

# How often a live status is drawn anew, in seconds.
REFRESH = 1.0

NameArgument = Annotated[str, typer.Argument(help="The program's name.")]
AddressArgument = Annotated[str, typer.Argument(help="The contact's address.")]


def register(app: typer.Typer, program_app: typer.Typer) -> None:
    """Add the questions to `mtad`, and those about one program to `mtad program`."""
    contact_app = typer.Typer(no_args_is_help=True, help="One contact.")
    contact_app.command("show")(contact_show)
    persons.register(contact_app)
    state.register(contact_app)
    app.add_typer(contact_app, name="contact")
    app.command("audit")(audit_program)
    app.command("why")(explain)
    program_app.command("status")(program_status)
    program_app.command("report")(program_report)


def audit_program(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Is every recipient of a program accounted for? Exit code 1 if not."""
    found = shell.ask(config, lambda conn: audit(conn, name))
    shell.show(found, view.audit_view, as_json=as_json)
    if not found.adds_up:
        raise typer.Exit(1)


def contact_show(
    address: AddressArgument, config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False
) -> None:
    """One contact: state, score, every mail and event."""
    found = shell.ask(config, lambda conn: show(conn, address))
    shell.show(found, view.person_view, as_json=as_json)


def explain(
    address: Annotated[str, typer.Argument(metavar="ADDRESS|JOB", help="A contact's address, or a mail's number.")],
    program: Annotated[str | None, typer.Option("--program", help="Only this program.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    as_json: JsonOption = False,
) -> None:
    """Why did somebody get a mail, or not, what does it wait for, and what comes next?"""
    found = shell.ask(config, lambda conn: why(conn, address, program))
    shell.show(found, view.why_view, as_json=as_json)


def program_report(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """What came of a program: people's answers, machines apart."""
    found = shell.ask(config, lambda conn: report(conn, name))
    shell.show(found, view.report_view, as_json=as_json)


def program_status(
    name: NameArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    once: Annotated[bool, typer.Option("--once", help="Print once, also on a terminal.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How far is a program? On a terminal until it is done or Ctrl-C."""
    clock = SystemClock()
    if out.is_terminal and not once and not as_json:
        # Ctrl-C is how an operator stops looking; the program goes on.
        try:
            run(config, lambda _, pool: watch(pool, name, clock))
        except KeyboardInterrupt:
            return
        return
    found = shell.ask(config, lambda conn: measured_progress(conn, name, clock))
    shell.show(found, view.status_view, as_json=as_json)


async def watch(pool: Pool, name: str, clock: Clock) -> None:
    """Draw the status every second until the program is done."""
    pace = Pace()
    with Live(console=out, auto_refresh=False) as live:
        while True:
            async with pool.acquire() as conn:
                now = pace.measured(await progress(conn, name))
            live.update(view.status_view(now), refresh=True)
            if now.done:
                return
            await clock.sleep(REFRESH)
