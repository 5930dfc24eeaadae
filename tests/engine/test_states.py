"""The table: total, as the README shows it, and what its cells do."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.policy import Points, Policy
from engine.states import TABLE, Act, Cell, Event, Kind, Row, State, apply

START = datetime(2026, 11, 1, 9, tzinfo=UTC)
NOW = START + timedelta(days=1)
POLICY = Policy(points=Points(), threshold=20)

INACTIVE = (State.COOLING, State.TRYING, State.RESTING)
SIGNS = (Kind.SIGN, Kind.SIGN_AGAIN)


def row_in(state: State, *, score: int = 0) -> Row:
    return Row(state, START, score, START, cycle=1 if state in INACTIVE else 0)


def cell_text(cell: Cell) -> str:
    """As engine/README.md writes it."""
    if cell.refused:
        return f"refused: {cell.refused}"
    if cell.impossible:
        return "–"
    parts = [f"→ {cell.to.capitalize()}"] if cell.to else []
    parts += [act.value for act in cell.acts]
    if cell.engages:
        parts.append("at the threshold → Engaged")
    return ", ".join(parts) or "·"


def test_every_pair_of_state_and_event_is_decided() -> None:
    assert set(TABLE) == set(Kind)
    assert all(set(cells) == set(State) for cells in TABLE.values())


def test_readme_shows_the_table() -> None:
    readme = (Path(__file__).parents[2] / "engine" / "README.md").read_text(encoding="utf-8")
    shown = [line for line in readme.splitlines() if line.startswith("|")]

    for kind, cells in TABLE.items():
        assert "| " + " | ".join([kind.value, *(cell_text(cells[state]) for state in State)]) + " |" in shown


@pytest.mark.parametrize(("kind", "state"), list(itertools.product(Kind, State)))
def test_cell_does_what_it_says_and_nothing_else(kind: Kind, state: State) -> None:
    cell = TABLE[kind][state]
    before = row_in(state, score=7)

    after, moved = apply(before, Event(kind, NOW, "fact", points=5), POLICY)

    assert after.state == (cell.to or state)
    assert (moved is not None) == (cell.to is not None and state is not State.NEW)
    if moved:
        assert (moved.from_state, moved.to_state, moved.fact, moved.at) == (state, after.state, "fact", NOW)
        assert moved.why
    if not cell.acts and not cell.to:
        assert after == before
    rounds = Act.ROUND in cell.acts or Act.ROUND_UNLESS_RUNNING in cell.acts
    assert (after.round_from == NOW) == rounds
    assert (after.last_sign == NOW) == bool({Act.POINTS, Act.SIGN} & set(cell.acts))
    kept = 0 if rounds or Act.COOL_DOWN in cell.acts else 7
    assert after.score == kept + (5 if Act.POINTS in cell.acts else 0)


@pytest.mark.parametrize("kind", sorted(set(Kind) - set(SIGNS)))
@pytest.mark.parametrize("state", State)
def test_only_signs_of_people_raise_a_score_or_make_engaged(kind: Kind, state: State) -> None:
    after, _ = apply(row_in(state, score=19), Event(kind, NOW, "fact", points=100), POLICY)

    assert after.score <= 19
    assert after.last_sign is None
    assert after.state is not State.ENGAGED or state is State.ENGAGED


@pytest.mark.parametrize(("state", "to"), [(State.ACTIVE, State.ENGAGED), (State.REACTIVATED, State.ENGAGED)])
def test_threshold_makes_engaged_at_the_very_point(state: State, to: State) -> None:
    below, nothing = apply(row_in(state, score=9), Event(Kind.SIGN, NOW, "fact", points=10), POLICY)
    reached, moved = apply(row_in(state, score=10), Event(Kind.SIGN, NOW, "fact", points=10), POLICY)

    assert (below.state, nothing) == (state, None)
    assert reached.state is to
    assert moved is not None
    assert moved.why == "threshold"


def test_sign_before_the_round_is_heard_but_earns_nothing() -> None:
    early = START - timedelta(seconds=1)

    after, _ = apply(row_in(State.ACTIVE), Event(Kind.SIGN, early, "fact", points=10), POLICY)

    assert (after.score, after.last_sign) == (0, early)


def test_last_sign_never_goes_back() -> None:
    row, _ = apply(row_in(State.ACTIVE), Event(Kind.SIGN_AGAIN, NOW, "fact"), POLICY)

    row, _ = apply(row, Event(Kind.SIGN_AGAIN, START, "fact"), POLICY)

    assert row.last_sign == NOW


def test_silence_begins_the_first_cool_down() -> None:
    after, moved = apply(row_in(State.ACTIVE, score=15), Event(Kind.SERIES_SILENT, NOW, "fact"), POLICY)

    assert (after.cycle, after.cool_until, after.score) == (1, NOW + timedelta(days=30), 0)
    assert moved is not None
    assert moved.why == "silent"


def test_another_running_series_keeps_the_round() -> None:
    row = row_in(State.ACTIVE, score=15)

    assert apply(row, Event(Kind.ENTERS_SERIES, NOW, "fact", series_runs=True), POLICY) == (row, None)


@given(
    st.lists(
        st.tuples(st.sampled_from(Kind), st.integers(0, 15), st.booleans()),
        max_size=30,
    )
)
def test_no_history_breaks_a_row(history: list[tuple[Kind, int, bool]]) -> None:
    row = row_in(State.NEW)
    for n, (kind, points, runs) in enumerate(history):
        before = row
        row, moved = apply(row, Event(kind, START + timedelta(hours=n), "fact", points, series_runs=runs), POLICY)

        assert row.score >= 0
        assert (row.cool_until is not None) == (row.state in INACTIVE)
        assert row.state is State.NEW or row.first_sent is not None
        assert moved is None or moved.from_state == before.state != row.state == moved.to_state
        assert row.state is before.state or moved is not None or before.state is State.NEW
        assert row.state is State.ENGAGED or before.state is State.ENGAGED or row.score < 20 or kind in SIGNS
