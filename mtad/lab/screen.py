"""What the viewer sees while the demo runs: acts told, bars that grow, states that breathe.

On a terminal it is drawn live; elsewhere it is plain lines, one every few seconds.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

# In the order in which they stand in the bar; the terminal's own colours.
STATES = {
    "new": "grey62",
    "active": "blue",
    "reactivated": "cyan",
    "engaged": "green",
    "inactive": "yellow",
    "resting": "grey50",
    "left": "red",
    "bounced": "magenta",
    "suppressed": "grey30",
}
BAR_WIDTH = 60

# Seconds between two lines of progress where there is no terminal.
PLAIN_EVERY = 5.0


class MailCount(msgspec.Struct, frozen=True):
    """One mail of a program: to how many it was enrolled, and what became of them."""

    node: str
    enrolled: int
    delivered: int
    ended: int

    @property
    def queued(self) -> int:
        return self.enrolled - self.ended


class View(msgspec.Struct, frozen=True):
    """One moment."""

    mails: Sequence[MailCount]
    states: Mapping[str, int]
    line: str


def cells(counts: Mapping[str, int], width: int) -> dict[str, int]:
    """Share `width` cells among states in proportion; whoever is not 0 gets at least one.

    Invariant: the cells add up to `width` when anybody is counted and it has room for
    a cell each.
    """
    present = {state: n for state, n in counts.items() if n > 0}
    total = sum(present.values())
    if not total:
        return {}
    exact = {state: n * width / total for state, n in present.items()}
    given = {state: max(1, int(share)) for state, share in exact.items()}
    # The largest remainders get what is left; the widest pay for those that needed help.
    while sum(given.values()) < width:
        given[max(present, key=lambda state: exact[state] - given[state])] += 1
    while sum(given.values()) > width and max(given.values()) > 1:
        given[max(given, key=lambda state: (given[state] > 1, given[state] - exact[state]))] -= 1
    return given


class Screen:
    """Draws on a console while the block lasts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._last_plain = ""
        self._next_plain = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def act(self, title: str, *sentences: str) -> None:
        """Announce an act in a sentence or a few."""
        self._console.print(Text.assemble("\n", (title, "bold")))
        self.say(*sentences)

    def say(self, *sentences: str) -> None:
        for sentence in sentences:
            if self._console.is_terminal:
                self._console.print(Padding(Text(sentence), (0, 0, 0, 2)))
            else:
                self._console.print(Text("  " + sentence), soft_wrap=True)

    def show(self, renderable: RenderableType) -> None:
        self._console.print(renderable)

    def update(self, view: View, now: float) -> None:
        """Draw a moment; `now` in monotonic seconds."""
        if self._live:
            self._live.update(_drawn(view), refresh=True)
        elif now >= self._next_plain and view.mails and (line := _plain(view)) != self._last_plain:
            self._next_plain, self._last_plain = now + PLAIN_EVERY, line
            self._console.print(Text("  · " + line), soft_wrap=True)


def _drawn(view: View) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    for mail in view.mails:
        grid.add_row(
            Text(f"  {mail.node:>10}"),
            ProgressBar(total=max(1, mail.enrolled), completed=mail.ended, width=BAR_WIDTH),
            Text(f"{mail.delivered:,} delivered, {mail.queued:,} queued", "dim"),
        )
    bar = Text(f"  {'audience':>10} ")
    shares = cells(view.states, BAR_WIDTH)
    for state, style in STATES.items():
        bar.append("█" * shares.get(state, 0), style)
    legend = Text(" " * 13)
    for state, style in STATES.items():
        if view.states.get(state):
            legend.append(f"● {state} {view.states[state]:,}  ", style)
    return Group(Text(""), grid, bar, legend, Text(f"             {view.line}", "dim"))


def _plain(view: View) -> str:
    mails = ", ".join(f"{mail.node} {mail.delivered}/{mail.enrolled}" for mail in view.mails)
    states = ", ".join(f"{view.states[state]} {state}" for state in STATES if view.states.get(state))
    return f"{mails} · {states}"
