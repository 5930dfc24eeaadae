"""The state table as engine/README.md shows it: `python -m engine.chart --write` puts it there.

Everything between the two marks is made from the machine; a test compares it.
"""

import sys
from pathlib import Path

from engine.states import TABLE, WHY, Act, Cell, State

BEGIN = "<!-- made by python -m engine.chart --write -->"
END = "<!-- end of what is made -->"
README = Path(__file__).with_name("README.md")

NAMES = {
    State.NEW: "New",
    State.ACTIVE: "Active",
    State.ENGAGED: "Engaged",
    State.REACTIVATED: "Reactivated",
    State.COOLING: "Inactive, cooling",
    State.TRYING: "Inactive, trying",
    State.RESTING: "Inactive, resting",
}

LETTERS = {
    Act.FIRST_SENT: "first_sent = time",
    Act.ROUND: "a round begins: score 0, points count from now",
    Act.ROUND_UNLESS_RUNNING: "R, unless another series of the stream runs for this contact",
    Act.POINTS: "the points of the sign, if it lies within the round; and L",
    Act.SIGN: "last_sign = time, never backwards; ignored = unclear = 0; an open window is closed as answered",
    Act.WINDOW: "opens a window, unless one is open",
    Act.VEIL: "an open window can only close as unclear",
    Act.HOLD: "an open window is held to the date given, or for 14 days",
    Act.PROLONG: "an open window is prolonged by that time; one that opens meanwhile begins at its end",
    Act.DROP: "an open window is dropped",
    Act.IGNORED: "ignored + 1, the window is closed",
    Act.UNCLEAR: "unclear + 1, the window is closed",
    Act.FORGET: "score = ignored = unclear = 0, an open window is dropped",
    Act.FIRST_CYCLE: "cycle 0, no cool-down",
    Act.COOL_DOWN: "cycle 1, the first cool-down begins; score = ignored = unclear = 0, the window is dropped;"
    " all entries on the stream end",
    Act.NEXT_COOL_DOWN: "cycle + 1, the next cool-down begins",
    Act.COOLED: "the cool-down is over at once, same cycle",
}

_NEVER = "\N{EN DASH}"
_SIGNS = (
    ("→ X", "the state changes, and the log gets a row with reason and fact"),
    ("·", "nothing"),
    (_NEVER, "cannot happen; changes nothing"),
    ("refused: r", "the gate says so, and it does not come to this"),
)


def words(cell: Cell) -> str:
    """A cell as the table writes it."""
    if cell.impossible:
        return _NEVER
    if cell.refused and not cell.cooled:
        return f"refused: {cell.refused}"
    parts = [f"→ {cell.to.capitalize()}"] if cell.to else []
    parts += [act.value for act in cell.acts]
    if cell.engages:
        parts.append("at the threshold → Engaged")
    said = ", ".join(parts) or "·"
    return f"if cool_until ≤ now: {said}; else refused: {cell.refused}" if cell.cooled else said


def chart() -> str:
    """Letters, table and diagram as Markdown."""
    letters = [(letter.value, meaning) for letter, meaning in LETTERS.items()]
    lines = _table(("letter", "meaning"), [*letters, *_SIGNS])
    rows = [(kind, *(words(cells[state]) for state in NAMES)) for kind, cells in TABLE.items()]
    lines += ["", *_table(("event", *NAMES.values()), rows)]
    lines += ["", "```mermaid", "stateDiagram-v2", *_arrows(), "```"]
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]


def _arrows() -> list[str]:
    """One arrow for two states, with the reasons for which the log says that it was taken."""
    why: dict[tuple[State, State], list[str]] = {}
    for kind, cells in TABLE.items():
        for state, cell in cells.items():
            if cell.to:
                why.setdefault((state, cell.to), []).append(WHY.get(kind, "delivered"))
            if cell.engages:
                why.setdefault((state, State.ENGAGED), []).append("threshold")
    arrows = [f"    {state} --> {to}: {', '.join(dict.fromkeys(said))}" for (state, to), said in why.items()]
    return [f"    [*] --> {State.NEW}", *sorted(arrows)]


def with_chart(readme: str) -> str:
    """A README with the chart between its marks; ValueError where they are missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{chart()}\n\n{END}{after}"


def main(arguments: list[str]) -> None:
    """Print the chart, or put it into the README."""
    if arguments == ["--write"]:
        README.write_text(with_chart(README.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(chart() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
