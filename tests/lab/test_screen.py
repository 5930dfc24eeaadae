"""The breathing bar, and lines where there is no terminal."""

import io
import itertools

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mtad.lab.screen import STATES, MailCount, Screen, View, cells

counts = st.dictionaries(st.sampled_from(sorted(STATES)), st.integers(0, 10**7))


@given(counts, st.integers(len(STATES), 200))
def test_the_bar_is_full_and_everybody_who_is_there_is_seen(people: dict[str, int], width: int) -> None:
    given_cells = cells(people, width)
    present = {state for state, n in people.items() if n}

    assert sum(given_cells.values()) == (width if present else 0)
    assert set(given_cells) == present
    assert all(n >= 1 for n in given_cells.values())


@given(counts)
def test_more_people_never_get_fewer_cells(people: dict[str, int]) -> None:
    given_cells = cells(people, 60)
    ordered = sorted(given_cells, key=people.__getitem__)

    assert all(given_cells[a] <= given_cells[b] + 1 for a, b in itertools.pairwise(ordered))


def test_without_a_terminal_progress_comes_as_plain_lines_and_not_too_often() -> None:
    out = io.StringIO()
    with Screen(Console(file=out, width=100)) as screen:
        screen.act("A title.", "A sentence.")
        for second in range(12):
            delivered = 40 + min(second, 6)
            screen.update(View([MailCount("trial", 100, delivered, 50)], {"new": 60}, ""), float(second))

    lines = [line for line in out.getvalue().split("\n") if line.startswith("  · ")]
    assert lines == ["  · trial 40/100 · 60 new", "  · trial 45/100 · 60 new", "  · trial 46/100 · 60 new"]
    assert "A title." in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_the_states_are_drawn() -> None:
    out = io.StringIO()
    view = View([MailCount("trial", 100, 40, 50)], {"active": 40, "engaged": 60}, "a line")
    with Screen(Console(file=out, width=100, force_terminal=True)) as screen:
        screen.update(view, 0.0)

    assert "█" in out.getvalue()
    assert "50 queued" in out.getvalue()
