"""The table: total, as the README shows it, and what its cells do."""

import itertools
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.chart import README, with_chart
from engine.policy import Points, Policy
from engine.states import TABLE, Act, Event, Kind, Row, State, apply

START = datetime(2026, 11, 1, 9, tzinfo=UTC)
NOW = START + timedelta(days=1)
POLICY = Policy(points=Points(), threshold=20)

INACTIVE = (State.COOLING, State.TRYING, State.RESTING)
MAILED = (State.ACTIVE, State.ENGAGED, State.REACTIVATED)
SIGNS = (Kind.SIGN, Kind.SIGN_AGAIN)
HEARD = (*SIGNS, Kind.SUBSCRIBED_AGAIN)


def row_in(state: State, *, score: int = 0) -> Row:
    """Who is Inactive has a cool-down behind them; who is not, an open window and one silent attempt of each kind."""
    row = Row(state, START, score, START)
    if state in INACTIVE:
        return msgspec.structs.replace(row, cycle=1, cool_until=START)
    if state in MAILED:
        return msgspec.structs.replace(row, window_until=START + timedelta(days=3), ignored=1, unclear=1)
    return row


def test_every_pair_of_state_and_event_is_decided() -> None:
    assert set(TABLE) == set(Kind)
    assert all(set(cells) == set(State) for cells in TABLE.values())


def test_readme_shows_the_machine() -> None:
    readme = README.read_text(encoding="utf-8")

    assert with_chart(readme) == readme, "run python -m engine.chart --write"


def test_readme_without_marks_is_not_written() -> None:
    with pytest.raises(ValueError, match="no <!-- made by"):
        with_chart("# engine")


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
    kept = 0 if rounds or {Act.COOL_DOWN, Act.FORGET} & set(cell.acts) else 7
    assert after.score == kept + (5 if Act.POINTS in cell.acts else 0)
    if not {Act.WINDOW, Act.VEIL, Act.HOLD, Act.PROLONG} & set(cell.acts):
        assert after.window_until in (None, before.window_until)
    cleared = bool({Act.POINTS, Act.SIGN, Act.FORGET, Act.COOL_DOWN} & set(cell.acts))
    assert after.ignored == (0 if cleared else before.ignored + (Act.IGNORED in cell.acts))
    assert after.unclear == (0 if cleared else before.unclear + (Act.UNCLEAR in cell.acts))
    if after.state in INACTIVE or cleared or {Act.DROP, Act.IGNORED, Act.UNCLEAR} & set(cell.acts):
        assert (after.window_until, after.veiled) == (None, False)


def test_every_letter_does_one_thing() -> None:
    """The same letter in another state changes the same fields."""
    changed: dict[Act, set[str]] = {}
    for kind, cells in TABLE.items():
        for state, cell in cells.items():
            if len(cell.acts) == 1 and not cell.to:
                before = row_in(state, score=7)
                after, _ = apply(before, Event(kind, NOW, "fact", points=5, until=NOW + timedelta(days=9)), POLICY)
                fields = {f for f in Row.__struct_fields__ if getattr(after, f) != getattr(before, f)}
                changed.setdefault(cell.acts[0], set()).update(fields)

    silence = {"ignored", "unclear", "window_until"}
    assert changed == {
        Act.ROUND: {"score", "round_from"},
        Act.ROUND_UNLESS_RUNNING: {"score", "round_from"},
        Act.POINTS: {"score", "last_sign", *silence},
        Act.SIGN: {"last_sign", *silence},
        Act.WINDOW: set(),  # one is open
        Act.VEIL: {"veiled"},
        Act.HOLD: {"window_until"},
        Act.PROLONG: {"window_until"},
        Act.DROP: {"window_until"},
        Act.IGNORED: {"ignored", "window_until"},
        Act.UNCLEAR: {"unclear", "window_until"},
        Act.FORGET: {"score", *silence},
    }


def test_reactivation_waits_for_the_end_of_the_cool_down() -> None:
    row = msgspec.structs.replace(row_in(State.COOLING), cool_until=NOW)

    assert apply(row, Event(Kind.ENTERS_REACTIVATION, NOW - timedelta(seconds=1), "fact"), POLICY) == (row, None)
    assert apply(row, Event(Kind.ENTERS_REACTIVATION, NOW, "fact"), POLICY)[0].state is State.TRYING


def test_next_cool_down_is_longer_and_a_stopped_reactivation_costs_none() -> None:
    row = row_in(State.TRYING)

    again, _ = apply(row, Event(Kind.REACTIVATION_SILENT, NOW, "fact"), POLICY)
    stopped, _ = apply(row, Event(Kind.REACTIVATION_STOPPED, NOW, "fact"), POLICY)

    assert (again.cycle, again.cool_until) == (2, NOW + timedelta(days=90))
    assert (stopped.cycle, stopped.cool_until) == (1, NOW)


@pytest.mark.parametrize("kind", sorted(set(Kind) - set(HEARD)))
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
