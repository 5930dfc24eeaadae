"""`mtad top` and `mtad trace`: what is going on now."""

import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mtad.base.clock import Clock, SystemClock
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.errors import InputError, Unavailable
from mtad.cli.answers_view import plain
from mtad.cli.queue import queue_view
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption, out, run, show
from mtad.ops.answers.times import local
from mtad.ops.daemon import is_running
from mtad.ops.line import Request, ask
from mtad.ops.top import LaneRates, NamedBlame, Top, TopState, WorkerLook
from mtad.ops.waiting import domain_name, hosts_of_domain

app = typer.Typer()

# Between two looks, in seconds; with a deep queue a look takes half of one.
REFRESH = 2.0
# A single look counts for so long, so that it has rates.
SAMPLE = 1.0


@app.command("top")
def top(
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    most: Annotated[int, typer.Option("--most", min=1, max=1000, help="Sites listed.")] = 10,
    once: Annotated[bool, typer.Option("--once", help="Print once, also on a terminal.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Rates, workers, sites, sessions, what is deferred and refused; on a terminal until Ctrl-C."""
    clock = SystemClock()
    if out.is_terminal and not once and not as_json:
        # Ctrl-C is how an operator stops looking.
        with contextlib.suppress(KeyboardInterrupt):
            run(config, lambda settings, pool: _watch(settings, pool, clock, most))
        return
    found = run(config, lambda settings, pool: _sample(settings, pool, clock, most))
    show(found, top_view, as_json=as_json)


@app.command("trace")
def trace(
    domain: Annotated[str, typer.Argument(help="Recipients' domain; without it all dialogues.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    most: Annotated[int, typer.Option("--most", min=0, help="End after so many lines; 0: Ctrl-C ends it.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show the SMTP dialogues about mail to a domain, on this machine, as they happen; without bodies."""
    wanted = domain_name(domain) if domain else ""
    with contextlib.suppress(KeyboardInterrupt):
        run(config, lambda settings, pool: _follow(settings, pool, wanted, most, as_json=as_json))


async def _watch(config: Config, pool: Pool, clock: Clock, most: int) -> None:
    """Draw everything anew until cancelled."""
    looker = Top(config.state)
    with Live(console=out, auto_refresh=False, screen=True) as live:
        while True:
            async with pool.acquire() as conn:
                found = await looker.look(conn, most=most)
            live.update(top_view(found), refresh=True)
            await clock.sleep(REFRESH)


async def _sample(config: Config, pool: Pool, clock: Clock, most: int) -> TopState:
    """Two looks, for the rates between them."""
    looker = Top(config.state)
    async with pool.acquire() as conn:
        await looker.look(conn, most=most)
        await clock.sleep(SAMPLE)
        return await looker.look(conn, most=most)


async def _follow(config: Config, pool: Pool, domain: str, most: int, *, as_json: bool) -> None:
    hosts: tuple[str, ...] = ()
    if domain:
        async with pool.acquire() as conn:
            hosts = await hosts_of_domain(conn, domain)
    if not is_running(config.state):
        raise Unavailable(f"no `mtad run` works in {config.state}, so there are no dialogues")
    shown = 0
    async with contextlib.aclosing(ask(config.state, Request("trace", hosts, domain))) as lines:
        async for slot, line in _until_full(lines):
            if as_json:
                sys.stdout.write(json.dumps({"slot": slot, **line}, ensure_ascii=False) + "\n")
                sys.stdout.flush()
            else:
                out.print(_trace_line(slot, line), soft_wrap=True)
            shown += 1
            if shown == most:
                return


async def _until_full(
    lines: AsyncGenerator[tuple[int, dict[str, Any]], None],
) -> AsyncGenerator[tuple[int, dict[str, Any]], None]:
    """The lines; InputError when a worker has too many askers."""
    async for slot, line in lines:
        if "error" in line:
            raise InputError(f"worker {slot}: {line['error']}")
        yield slot, line


def _trace_line(slot: int, line: dict[str, Any]) -> Text:
    if "dropped" in line:
        return Text(f"worker {slot}: {line['dropped']:,} lines were not shown, there were too many", "yellow")
    at = datetime.fromisoformat(line["at"]).astimezone()
    mark, style = {"client": ("→", "cyan"), "server": ("←", "green")}.get(line["who"], ("·", "dim"))
    head = f"{at:%H:%M:%S}.{at.microsecond // 1000:03} {slot}/{line['session']} {line['host']} "
    return Text.assemble(plain(head, "dim"), (f"{mark} ", style), plain(line["text"], style))


def top_view(found: TopState) -> RenderableType:
    """Totals, workers, what keeps us from hearing people, sites at work, what hurts, refusals that blame us."""
    rates = found.rates
    said = ", ".join(f"{getattr(rates, name):,.1f} {name.replace('_', ' ')}" for name in rates.__struct_fields__)
    parts: list[RenderableType] = [Text.assemble(("a second", "bold"), "  ", said, "  ", (local(found.at), "dim"))]
    parts += [Text(), _workers(found.workers)] if found.workers else [Text("no worker is alive", "red")]
    parts += [Text(one.why, "bold red" if one.holds else "yellow") for one in found.unheard]
    if found.active:
        parts += [Text(), _active(found.active)]
    parts += [Text(), queue_view(found.queue)]
    if found.blamed:
        parts += [Text(), Text("refused for our address, name or content", "bold red"), _blamed(found.blamed)]
    return Group(*parts)


def _grid(*columns: str, left: int) -> Table:
    """A table whose first `left` columns are words, which are folded where room is short, the others numbers."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for number, name in enumerate(columns):
        words = number < left
        table.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    return table


def _workers(workers: list[WorkerLook]) -> Table:
    table = _grid("worker", "host", "pid", "since", "delivered/s", "sessions", "claimed", "lag ms", "silent s", left=4)
    for look in workers:
        host = look.host
        table.add_row(
            str(host.slot), plain(host.host), str(host.pid), local(host.since),
            "-" if look.rates is None else f"{look.rates.delivered:,.1f}",
            f"{host.sessions:,}", "-" if look.claimed is None else f"{look.claimed:,}",
            "-" if look.lag is None else f"{look.lag * 1000:,.0f}", f"{host.silent:,.0f}",
        )  # fmt: skip
    return table


def _active(lanes: list[LaneRates]) -> Table:
    table = _grid("at work", "source", "sessions", "delivered/s", "deferred/s", "bounced/s", left=2)
    for lane in lanes:
        rates = lane.rates
        table.add_row(
            plain(lane.site), plain(lane.source), f"{lane.sessions:,}", *(
                f"{n:,.1f}" for n in (rates.delivered, rates.deferred, rates.bounced)
            ),
        )  # fmt: skip
    return table


def _blamed(rows: list[NamedBlame]) -> Table:
    table = _grid("last", "site", "source", "times", "category", "reply", left=6)
    for row in rows:
        table.add_row(
            local(row.at), plain(row.site), plain(row.source), f"{row.number:,}", plain(row.category), plain(row.reply)
        )
    return table
