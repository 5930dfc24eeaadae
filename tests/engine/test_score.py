"""Hits → rows: whatever their order, once per mail and kind."""

import random
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.policy import Policy
from engine.score import Folded, Hit, Leave, fold_hits
from engine.states import Row, State
from mtad.base.ids import uuid7

START = datetime(2026, 11, 1, 9, tzinfo=UTC)
POLICIES = {1: Policy(), 2: Policy(threshold=5)}


def hit(
    number: int, *, job: int = 1, kind: str = "open", minutes: int = 0, stream: int = 1, entry: int | None = None
) -> Hit:
    return Hit(
        event_id=uuid7(number, bytes(10)),
        job_id=job,
        kind="open" if kind == "open" else "click",
        link_id=1,
        at=START + timedelta(minutes=minutes),
        stream_id=stream,
        contact_id=1,
        entry_id=entry,
        class_=2,
        delivered_at=START,
        fact=f"job {job}",
    )


hits = st.lists(
    st.builds(
        hit,
        st.integers(0, 10_000),
        job=st.integers(1, 4),
        kind=st.sampled_from(["open", "click"]),
        minutes=st.integers(-60, 60),
        entry=st.none() | st.integers(1, 3),
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


def folded(given_hits: list[Hit], row: Row | None = None, answered: Collection[tuple[int, str]] = ()) -> Folded:
    return fold_hits(given_hits, rows={(1, 1): row} if row else {}, answered=answered, policies=POLICIES)


@given(hits, rows, st.randoms())
def test_the_order_of_hits_within_a_batch_changes_nothing(made: list[Hit], row: Row, luck: random.Random) -> None:
    shuffled = made.copy()
    luck.shuffle(shuffled)

    assert folded(shuffled, row) == folded(made, row)


@given(hits, rows)
def test_what_was_answered_before_earns_nothing_again(made: list[Hit], row: Row) -> None:
    first = folded(made, row)
    if not made:
        return
    after = first.rows[1, 1]
    answered = {(answer.job_id, answer.kind) for answer, _ in first.answers}

    again = folded(made, after, answered)

    assert again.answers == []
    assert again.leaves == []
    assert again.rows[1, 1].score == after.score
    assert after.state in (State.COOLING, State.TRYING, State.RESTING) or again.transitions == []


@given(hits, rows)
def test_score_is_the_sum_of_the_points_that_counted(made: list[Hit], row: Row) -> None:
    result = folded(made, row)

    counted = sum(points for _, points in result.answers)
    began_anew = any(moved.to_state is State.REACTIVATED for _, moved in result.transitions)
    if made:
        assert result.rows[1, 1].score == counted + (0 if began_anew else row.score)
    jobs = {answer.job_id for answer, _ in result.answers}
    assert counted <= 15 * len(jobs)
    assert len({(answer.job_id, answer.kind) for answer, _ in result.answers}) == len(result.answers)


@given(hits)
def test_nobody_becomes_engaged_by_one_mail(made: list[Hit]) -> None:
    result = folded([one for one in made if one.job_id == 1])

    assert result.transitions == []


def test_streams_do_not_touch_each_other() -> None:
    result = folded([hit(1), hit(2, job=2, stream=2)])

    assert result.rows[1, 1].state is State.ACTIVE
    assert result.rows[2, 1].state is State.ENGAGED
    assert result.leaves == [Leave(1, "engaged", 2, sign="engaged")]


def test_becoming_engaged_is_the_reason_before_the_click_that_did_it() -> None:
    result = folded([hit(1, job=7, kind="click", stream=2, entry=3)])

    assert [leave.why for leave in result.leaves] == ["engaged", "clicked"]


def test_transactional_mail_leaves_somebody_new() -> None:
    receipt = Hit(**{f: getattr(hit(1), f) for f in Hit.__struct_fields__} | {"class_": 0})

    row = folded([receipt]).rows[1, 1]

    assert (row.state, row.score, row.last_sign) == (State.NEW, 0, START)
