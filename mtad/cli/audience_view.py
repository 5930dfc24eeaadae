"""`mtad audience` as an operator sees it. An answer in, a rich renderable out."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mtad.cli import chart
from mtad.cli.answers_view import plain
from mtad.ops.answers.audience import MAILED, RESTING, RETURN_DAYS, Audience, Hold, Returns
from mtad.ops.answers.times import local, span

# Days back for which a column stands in the table, as far as they were asked for.
COLUMNS = (7, 30, 90, 365)
MOVES = 8


def audience_view(found: Audience) -> RenderableType:
    """Sizes, plot, moves, returns, holds."""
    days = len(found.history) - 1
    columns = [[sizes.get(band.label, 0) for band in chart.STATES] for sizes in found.history]
    return Group(
        Text.assemble(plain(found.stream, "bold"), f"  version {found.version}, {local(found.at)}{_day(found.day)}"),
        Text(),
        _sizes(found),
        Text(),
        Text(f"The last {_days(days)}", "bold"),
        *chart.stacked(columns, chart.STATES, width=60, height=10),
        *chart.legend(chart.STATES),
        Text(),
        _moves(found, days),
        Text(),
        *_returns(found),
        *[line for hold in found.holds for line in _held(found.stream, hold)],
    )


def _sizes(found: Audience) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("now", justify="right")
    chosen = [days for days in COLUMNS if days < len(found.history)][:3]
    for days in chosen:
        table.add_column(f"{days} d ago", justify="right")
    table.add_column(f"over {len(found.history) - 1} d")
    past = [found.history[-1 - days] for days in chosen]

    def line(label: str, states: tuple[str, ...], style: str = "") -> None:
        values = [sum(sizes.get(state, 0) for state in states) for sizes in found.history]
        before = [f"{sum(sizes.get(state, 0) for state in states):,}" for sizes in past]
        table.add_row(
            Text(label, style), f"{values[-1]:,}", *before, Text(chart.curve(values, max(values), 24), style or "dim")
        )

    styles = {band.label: band.style for band in chart.STATES}
    for label, states in (("mailed", MAILED), ("Inactive", RESTING)):
        line(label, states, "bold")
        for state in states:
            line(f"  {state}", (state,), styles[state])
    line("left", ("left",), "bold")
    for state in ("unsubscribed", "suppressed", "unconfirmed"):
        if found.sizes.get(state):
            table.add_row(Text(f"  {state}"), f"{found.sizes[state]:,}")
    return table


def _moves(found: Audience, days: int) -> RenderableType:
    moves = [move for move in found.moves if move.from_state != "outside" and move.why != "delivered"]
    if not moves:
        return Text(f"Nobody changed state in the last {_days(days)}.")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(f"changes in the last {_days(days)}")
    table.add_column("people", justify="right")
    table.add_column("because")
    for move in moves[:MOVES]:
        table.add_row(f"{move.from_state} → {move.to_state}", f"{move.people:,}", plain(move.why.replace("_", " ")))
    return table


def _returns(found: Audience) -> list[RenderableType]:
    lines: list[RenderableType] = [Text("Expected returns", "bold")]
    lines += [_indented(text) for text in returns_lines(found.returns)]
    if any(found.returns.ending):
        bars = chart.curve(found.returns.ending, max(found.returns.ending), RETURN_DAYS)
        lines.append(_indented(f"{bars}  today → {RETURN_DAYS} d"))
    if found.asked:
        share = f"{found.came_back:,} came back ({found.came_back / found.asked:.0%})"
        lines.append(_indented(f"Of {found.asked:,} whose reactivation ended lately, {share}."))
    if found.unmeasured:
        lines.append(_indented(f"{found.unmeasured:,} without tracking consent: elasticity will not act on them."))
    return lines


def returns_lines(returns: Returns) -> list[str]:
    """Cool-downs that are over, those that end soon, and who takes these people in."""
    programs = ", ".join(returns.reactivations)
    lines = []
    if returns.waiting:
        lines.append(f"{returns.waiting:,} have cooled down and wait to be asked.")
    whose = f"The cool-down of {sum(returns.ending):,}" if any(returns.ending) else "Nobody's cool-down"
    lines.append(f"{whose} ends in the next {RETURN_DAYS} days.")
    if programs:
        lines.append(f"{programs} takes them in.")
    elif returns.waiting or any(returns.ending):
        lines.append("No reactivation program runs that would take them in.")
    return lines


def _held(stream: str, hold: Hold) -> list[RenderableType]:
    since = f" since {local(hold.since)}" if hold.since else ""
    lines: list[RenderableType] = [Text(), Text(f"Held by the {hold.kind}{since}", "bold yellow"), _indented(hold.why)]
    if hold.kind == "brake":
        lines.append(_indented(f"Nobody is paused for silence until `mtad audience release {stream}`."))
    elif hold.kind == "provider":
        lines.append(_indented("Its windows stay open until signs return; mail goes on."))
    else:
        lines.append(_indented("Nobody is paused for silence meanwhile; mail goes on."))
    return lines


def _indented(text: str) -> RenderableType:
    return Padding(plain(text), (0, 0, 0, 2), expand=False)


def _day(seconds: float) -> str:
    """Said where a stream's days are no days."""
    return "" if seconds == 86400 else f"; a day lasts {span(seconds)} here"


def _days(days: int) -> str:
    return "day" if days == 1 else f"{days} days"
