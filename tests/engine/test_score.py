"""Hits as facts: points once per mail and kind whatever their order, and what ends with them."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.policy import Policy
from engine.replay import NEVER, Earned, Replayed, replay
from engine.score import Hit, Leave, ends, sign
from engine.states import Row, State, Transition
from mtad.base.ids import uuid7

START = datetime(2026, 11, 1, 9, tzinfo=UTC)
POLICY = Policy()


def hit(
    number: int, *, job: int = 1, kind: str = "open", minutes: int = 0, entry: int | None = None, again: bool = False
) -> Hit:
    return Hit(
        event_id=uuid7(number, bytes(10)),
        job_id=job,
        kind="open" if kind == "open" else "click",
        link_id=1,
        at=START + timedelta(minutes=minutes),
        stream_id=1,
        contact_id=1,
        entry_id=entry,
        node="one",
        position=3,
        reactivation=again,
    )


hits = st.lists(
    st.builds(
        hit,
        st.integers(0, 10_000),
        job=st.integers(1, 4),
        kind=st.sampled_from(["open", "click"]),
        minutes=st.integers(-60, 60),
    ),
    max_size=20,
    unique_by=lambda made: made.event_id,
)
rows = st.builds(
    lambda state, score, shift: Row(state, START, score, START + timedelta(minutes=shift), first_sent=START),
    st.sampled_from([state for state in State if state is not State.NEW]),
    st.integers(0, 19),
    st.integers(-30, 30),
)


def told(given_hits: list[Hit], row: Row) -> Replayed:
    return replay([sign(one, POLICY) for one in given_hits], [(NEVER, POLICY)], START, row)


@given(hits, rows, st.integers(0, 2**32))
def test_score_is_the_sum_of_the_points_that_counted_since_the_round_began(
    given_hits: list[Hit], row: Row, seed: int
) -> None:
    shuffled = list(given_hits)
    random.Random(seed).shuffle(shuffled)

    done = told(shuffled, row)

    assert done == told(given_hits, row)
    began = done.row.round_from != row.round_from
    counted = sum(one.points for one in done.earned if one.fact.event.at >= done.row.round_from)
    assert done.row.score == (0 if began else row.score) + counted
    firsts = [one.fact.once for one in done.earned]
    assert sorted(firsts) == sorted({one.once for one in given_hits})


def test_a_fact_says_where_it_was_clicked() -> None:
    assert sign(hit(1, kind="click", job=17), POLICY).event.fact == "click on link 3 of one, job 17"
    assert sign(hit(1, job=17), POLICY).event.fact == "open of one, job 17"


ACTIVE = Row(State.ACTIVE, START, 0, START, first_sent=START)
TRYING = Row(State.TRYING, START, 0, START, first_sent=START, cycle=1, cool_until=START)


def moved(row: Row, to: State) -> tuple[Row, Transition]:
    return Row(to, START, 0, START, first_sent=START), Transition(row.state, to, "why", "fact", START)


@pytest.mark.parametrize(
    ("row", "to", "leaves"),
    [
        (ACTIVE, State.ENGAGED, [Leave(1, "engaged", 1, sign="engaged")]),
        (ACTIVE, State.COOLING, [Leave(1, "inactive", 1)]),
        (TRYING, State.REACTIVATED, [Leave(1, "came_back", 1, sign="reactivation")]),
        (TRYING, State.ACTIVE, [Leave(1, "came_back", 1, sign="reactivation")]),
        (TRYING, State.COOLING, []),
        (TRYING, State.RESTING, []),
    ],
)
def test_a_change_of_state_ends_entries(row: Row, to: State, leaves: list[Leave]) -> None:
    after, transition = moved(row, to)

    assert ends((1, 1), row, after, [transition], [], {}) == leaves


@pytest.mark.parametrize(("kind", "why"), [("open", "opened"), ("click", "clicked")])
def test_the_first_answer_to_a_mail_ends_its_entry_and_what_a_replay_found_does_not(kind: str, why: str) -> None:
    one = hit(1, kind=kind, entry=5)
    earned = [Earned(sign(one, POLICY), 5)]

    assert ends((1, 1), ACTIVE, ACTIVE, [], earned, {earned[0].fact.id: one}) == [Leave(1, why, 1, 5, kind)]
    assert ends((1, 1), ACTIVE, ACTIVE, [], earned, {}) == []
