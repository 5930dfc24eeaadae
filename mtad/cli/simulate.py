"""`mtad simulate`: what a policy would do to synthetic people, before it does it to real ones."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from engine.simulation import COMPARED, Outcome, Rule, brake_at, in_days, presets, simulate, summed
from mtad.base.plot import Line, Panel, svg
from mtad.cli import chart, shell
from mtad.compose.apply import read_stream

app = typer.Typer()

# People a process takes at a time: some seconds, so that the bar moves.
CROWD = 2000


class RuleResult(msgspec.Struct, frozen=True):
    """One rule; shares are of mailing everybody, `living_paused` of those who read to the end."""

    rule: str
    mails: int
    mails_share: float
    mails_saved: int
    reads: int
    reads_kept: float
    living_paused: float
    mailed: Sequence[int]  # how many got each mail to everybody
    states: Sequence[dict[str, int]]  # and their states before it
    paused: Sequence[int]  # became Inactive, day by day
    brake: tuple[int, int] | None  # the day on which the brake would stop the sweep, and how many it would pause


class Result(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    contacts: int
    days: int
    every: int
    seed: int
    seconds: float
    rules: list[RuleResult]


@app.command("simulate")
def simulate_(
    *,
    contacts: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many people.")] = 10_000,
    days: Annotated[int, typer.Option(min=1, max=3650, help="For how long.")] = 180,
    every: Annotated[int, typer.Option(min=1, max=365, help="Days between two mails to everybody.")] = 7,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A stream's TOML file; else the presets are shown.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another number makes other people.")] = 1,
    svg_file: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the plot there.")] = None,
    as_json: shell.JsonOption = False,
) -> None:
    """Try a policy on synthetic people, beside simpler rules and mail to everybody; nothing is sent."""
    rules = [*COMPARED, *_ours(policy)]
    began = time.monotonic()
    outcomes = _simulated(contacts, partial(simulate, rules, days=days, every=every, seed=seed))
    result = Result(contacts, days, every, seed, round(time.monotonic() - began, 1), _results(outcomes, rules, every))
    if svg_file:
        shell.write_text(svg_file, _svg(result))
    shell.show(result, _view, as_json=as_json)


def _ours(file: Path | None) -> list[Rule]:
    if file is None:
        return presets()
    stream = read_stream(file)
    return [Rule(f"{stream.name}, {file.name}", in_days(stream.policy))]


def _simulated(contacts: int, work: partial[list[Outcome]]) -> list[Outcome]:
    """All crowds, by as many processes as there are processors, with a bar on a terminal."""
    crowds = [range(first, min(first + CROWD, contacts)) for first in range(0, contacts, CROWD)]
    bar = Progress(
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=shell.err,
        transient=True,
        disable=not shell.err.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=contacts)
        parts = []
        for crowd, part in zip(crowds, _parts(crowds, work), strict=True):
            parts.append(part)
            bar.update(task, advance=len(crowd))
    return summed(parts)


def _parts(crowds: Sequence[range], work: partial[list[Outcome]]) -> Iterator[list[Outcome]]:
    if len(crowds) == 1:
        yield work(crowds[0])
        return
    # Spawned, not forked: the bar has a thread of its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_leave_interrupts) as pool:
        try:
            yield from pool.map(work, crowds)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_interrupts() -> None:
    """Ctrl-C is for who started us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _results(outcomes: Sequence[Outcome], rules: Sequence[Rule], every: int) -> list[RuleResult]:
    """Of everybody first, then of each rule."""
    everybody = outcomes[0]
    brakes = [
        None,
        *(
            None if rule.unanswered else brake_at(o, rule.policy, every)
            for rule, o in zip(rules, outcomes[1:], strict=True)
        ),
    ]
    return [
        RuleResult(
            rule=one.rule,
            mails=one.mails,
            mails_share=one.mails / everybody.mails,
            mails_saved=everybody.mails - one.mails,
            reads=one.reads,
            reads_kept=one.reads / max(everybody.reads, 1),
            living_paused=one.living_paused / max(one.living, 1),
            mailed=one.mailed,
            states=one.states,
            paused=one.paused,
            brake=brake,
        )
        for one, brake in zip(outcomes, brakes, strict=True)
    ]


def _view(result: Result) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("rule")
    for heading in ("mails", "saved", "reads kept", "living paused"):
        table.add_column(heading, justify="right")
    for one in result.rules:
        saved = f"{1 - one.mails_share:.0%}"
        table.add_row(one.rule, f"{one.mails:,}", saved, f"{one.reads_kept:.0%}", f"{one.living_paused:.0%}")
    curves = Table(box=None, pad_edge=False, header_style="dim")
    curves.add_column("rule")
    curves.add_column("mailed, mail by mail")
    for one in result.rules:
        curves.add_row(one.rule, chart.curve(one.mailed, result.contacts, 48))
    ours = result.rules[1 + len(COMPARED)]
    columns = [[counts.get(band.label, 0) for band in chart.STATES] for counts in ours.states]
    return Group(
        Text(
            f"{result.contacts:,} people, a mail every {result.every} days for {result.days} days,"
            f" seed {result.seed}; {result.seconds:.0f} s"
        ),
        Text(),
        table,
        Text(),
        curves,
        Text(),
        Text(f"How the audience breathes: {ours.rule}", "bold"),
        *chart.stacked(columns, chart.STATES, width=60, height=12),
        *chart.legend(chart.STATES),
        *_warnings(result),
    )


def _warnings(result: Result) -> list[Text]:
    return [
        Text(
            f"\n{one.rule}: on day {one.brake[0]} a sweep would pause {one.brake[1]:,} at once, for all began together."
            " The brake stops it until `mtad audience release`."
        )
        for one in result.rules
        if one.brake
    ]


def _svg(result: Result) -> str:
    mailed = Panel("mailed, mail by mail", [Line(one.rule, list(one.mailed)) for one in result.rules])
    breathing = [
        Panel(
            f"audience by state: {one.rule}",
            [Line(band.label, [n.get(band.label, 0) for n in one.states], band.shade) for band in chart.STATES],
            stacked=True,
        )
        for one in result.rules
        if any(one.states)
    ]
    days = [float(number * result.every) for number in range(len(result.rules[0].mailed))]
    return svg(days, [mailed, *breathing], label=lambda day: f"day {day:.0f}")
