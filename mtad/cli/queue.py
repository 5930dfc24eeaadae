"""`mtad queue`: what waits where, what hurts most first."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mtad.cli.answers_view import duration, plain
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption, ask, show
from mtad.ops.answers.delivery import rate, warmup_over
from mtad.ops.answers.queue import Filter, LaneState, QueueState, SiteQueue, Unresolved, queue_state
from mtad.ops.answers.times import local
from mtad.ops.standing import Order
from mtad.queue.limits import LaneLimit
from mtad.queue.suspensions import Suspension

app = typer.Typer()

# Longer replies are cut on the screen; --json has them whole.
REPLY = 160


@app.command("queue")
def queue(
    site: Annotated[str, typer.Argument(help="Part of a site's name, or a domain. Without it: every site.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    program: Annotated[str, typer.Option("--program", help="Only this program's mail.")] = "",
    closed: Annotated[bool, typer.Option("--closed", help="Only sites where nothing begins now.")] = False,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="Sites listed.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """What waits for which site, and why; the sites that hurt most come first."""
    wanted = Filter(site, program, closed, most)
    show(ask(config, lambda conn: queue_state(conn, wanted)), queue_view, as_json=as_json)


def queue_view(found: QueueState) -> RenderableType:
    """The sites in a table, then the lanes, what was said, whose site is not known, what is suspended."""
    parts: list[RenderableType] = [_totals(found)]
    if found.sites:
        parts += [Text(), sites_table(found.sites)]
    if lanes := [lane for site in found.sites for lane in site.lanes if lane.sessions or lane_state(lane)]:
        parts += [Text(), lanes_table(lanes)]
    if warmups := {warmup for site in found.sites for lane in site.lanes if (warmup := warmup_over(lane))}:
        parts += [Text(), *(plain(warmup, "yellow") for warmup in sorted(warmups))]
    if remarks := [line for site in found.sites for line in _remarks(site)]:
        parts += [Text(), *remarks]
    if found.unresolved_domains:
        parts += [Text(), *_nowhere(found.unresolved_domains)]
    if found.hidden:
        parts.append(plain(f"{found.hidden:,} more sites; --most shows them", "dim"))
    if found.suspended:
        parts += [Text(), suspensions_table(found.suspended)]
    if found.sampled is not None:
        parts.append(plain(f"~ is an estimate from {found.sampled:.2g} % of the queue's pages", "dim"))
    return Group(*parts)


def sites_table(sites: tuple[SiteQueue, ...]) -> Table:
    """A line a site. Where there is little room its name is folded, and no number is cut."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("site", overflow="fold", max_width=60)
    for name in ("waiting", "due", "deferred", "claimed", "in doubt", "late", "sessions"):
        table.add_column(name, justify="right", no_wrap=True)
    for site in sites:
        opened, most = sum(lane.sessions for lane in site.lanes), sum(lane.session_limit for lane in site.lanes)
        table.add_row(
            plain(site.site), str(site.waiting), str(site.due), str(site.deferred), f"{site.claimed:,}",
            f"{site.in_doubt:,}", duration(site.late) if site.late else "-", f"{opened:,}/{most:,}",
        )  # fmt: skip
    return table


def lanes_table(lanes: list[LaneState]) -> Table:
    """The lanes that are at work, or held back, and by what."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("lane", overflow="fold", max_width=60)
    for name in ("rate", "tokens", "sessions"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("held back", overflow="fold", ratio=1)
    for lane in lanes:
        table.add_row(
            plain(f"{lane.source}/{lane.site}"), rate(lane.rate), f"{lane.tokens:,.0f}",
            f"{lane.sessions}/{lane.session_limit}", plain(lane_state(lane), "yellow"),
        )  # fmt: skip
    return table


def suspensions_table(rows: tuple[Suspension, ...] | list[Suspension]) -> Table:
    """What is suspended, by whom, until when and why."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("id", "suspended", "", "until", "by", "since", "reason"):
        table.add_column(name, justify="right" if name == "id" else "left", overflow="fold")
    for row in rows:
        until = local(row.until) if row.until else "it is resumed"
        table.add_row(
            str(row.id), row.kind, plain(row.key), until, plain(row.made_by), local(row.made), plain(row.reason)
        )
    return table


def orders_table(rows: list[Order]) -> Table:
    """The purges and rebinds that go on."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("id", "does", "of", "to", "until", "by", "since", "mails", "reason"):
        table.add_column(name, justify="right" if name in ("id", "mails") else "left", overflow="fold")
    for row in rows:
        table.add_row(
            str(row.id), row.verb, plain(f"{row.kind} {row.key}"), plain(row.to or ""), local(row.until),
            plain(row.made_by), local(row.made), f"{row.changed:,}", plain(row.reason),
        )  # fmt: skip
    return table


def limits_table(rows: list[LaneLimit]) -> Table:
    """What limits lanes for a while, by whom, until when and why."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("id", "lane", "limit", "until", "by", "since", "reason"):
        table.add_column(name, justify="right" if name == "id" else "left", overflow="fold")
    for row in rows:
        table.add_row(
            str(row.id), plain(row.lane), f"{row.knob} {row.value}", local(row.until), plain(row.made_by),
            local(row.made), plain(row.reason),
        )  # fmt: skip
    return table


def lane_state(lane: LaneState) -> str:
    """Why nothing, or less, begins on it, or ''."""
    said = []
    for row in lane.suspended:
        until = f" until {local(row.until)}" if row.until else ""
        said.append(f"{row.kind} suspended{until} by {row.made_by}: {row.reason}")
    if lane.closed_until:
        said.append(f"closed until {local(lane.closed_until)}: {lane.closed_why}")
    said += [
        f"{limit.knob} {limit.value} until {local(limit.until)} by {limit.made_by}: {limit.reason}"
        for limit in lane.limits
    ]
    return "; ".join(said)


def _nowhere(domains: tuple[Unresolved, ...]) -> list[Text]:
    return [
        Text.assemble(
            plain(f"{row.domain} ", "yellow"),
            plain(f"{row.waiting:,} wait to be told where to go: {row.trouble or 'not asked for yet'}"),
        )
        for row in domains
    ]


def _totals(found: QueueState) -> Text:
    said = [
        f"{found.waiting} waiting", f"{found.due} due", f"{found.deferred} deferred", f"{found.claimed:,} claimed",
        f"{found.in_doubt:,} in doubt",
    ]  # fmt: skip
    if found.held.n:
        said.append(f"{found.held} held by paused programs")
    if found.unresolved:
        said.append(f"{found.unresolved:,} without a site: their domains are being resolved")
    return Text.assemble(("queue", "bold"), "  ", (", ".join(said), "dim"), "  ", (f"at {local(found.at)}", "dim"))


def _remarks(site: SiteQueue) -> list[Text]:
    lines = []
    if site.last_reply:
        reply = site.last_reply if len(site.last_reply) <= REPLY else f"{site.last_reply[: REPLY - 1]}…"
        lines.append(Text.assemble(plain(f"{site.site} ", "dim"), plain(f"said: {reply}", "dim")))
    return lines
