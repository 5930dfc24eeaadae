"""However facts arrive, a row is what a replay of their sorted set gives, and the log says so too."""

import itertools
import random
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.policy import Policy
from engine.replay import NEVER, Fact, Logged, replay
from engine.states import TABLE, Event, Kind, State
from tests.engine.histories import NUMBERS, POLICY, RULES, START, STEP, STEPS, History, applied, base, history

HISTORIES = 5000
END = START + (STEPS + 400) * STEP
DAY = timedelta(days=1)

# Left alone, hypothesis draws five of up to forty.
NUMBER = st.integers(0, NUMBERS - 1)
numbers = st.lists(NUMBER, max_size=40, unique=True) | st.lists(NUMBER, min_size=25, max_size=40, unique=True)


def arrive(facts: Sequence[Fact], luck: random.Random) -> list[list[Fact]]:
    """In any order, a third of them twice, in any batches."""
    told = [*facts, *luck.sample(facts, len(facts) // 3)]
    luck.shuffle(told)
    batches = []
    while told:
        size = luck.choice((0, 1, 2, 5, 40))
        batches.append([told.pop() for _ in range(min(size, len(told)))])
    return batches


@settings(max_examples=HISTORIES // 10)
@given(numbers, st.integers(0, 2**32))
def test_any_order_of_arrival_gives_the_replay_of_the_sorted_set(drawn: list[int], seed: int) -> None:
    require_the_replay(drawn, seed)


def test_thousands_of_orders_of_arrival_give_it() -> None:
    """Hypothesis makes what fails smaller, and takes four times as long to draw a history as that takes to replay."""
    for seed in range(HISTORIES):
        luck = random.Random(seed)
        require_the_replay(luck.sample(range(NUMBERS), luck.randint(0, 40)), seed)


def require_the_replay(drawn: list[int], seed: int) -> None:
    luck = random.Random(seed)
    facts = history(drawn)
    void = set(luck.sample([fact.id for fact in facts], len(facts) // 8))
    contact = History()
    judged = list(void)
    for batch in arrive(facts, luck):
        heard = START + luck.randrange(STEPS) * STEP
        anew = [judged.pop()] if judged and luck.random() < 0.3 else []
        contact.fold(batch, heard, void=anew)
    contact.fold([], END, void=judged)

    truth = replay([fact for fact in facts if fact.id not in void], RULES, END, base())

    assert contact.row == truth.row
    assert applied(contact.log) == list(truth.log)


@settings(max_examples=HISTORIES // 10)
@given(numbers, st.integers(0, 2**32))
def test_at_every_moment_the_row_is_that_of_what_was_read(drawn: list[int], seed: int) -> None:
    luck = random.Random(seed)
    contact, latest = History(), NEVER
    known: dict[str, Fact] = {}
    for batch in arrive(history(drawn), luck):
        heard = START + luck.randrange(STEPS) * STEP
        contact.fold(batch, heard)
        known |= {fact.id: fact for fact in batch}
        latest = max(latest, heard)

        truth = replay(known.values(), RULES, latest, base())
        assert contact.row == truth.row
        assert applied(contact.log) == list(truth.log)


@settings(max_examples=HISTORIES // 10)
@given(numbers)
def test_no_history_breaks_a_row_or_its_log(drawn: list[int]) -> None:
    done = replay(history(drawn), RULES, END, base())
    row = done.row

    assert (row.cool_until is not None) == (row.state in (State.COOLING, State.TRYING, State.RESTING))
    assert 0 <= row.ignored < POLICY.attempts
    assert row.cycle <= len(POLICY.cool_downs)
    assert not row.veiled or row.window_until is not None
    assert [logged.place for logged in done.log] == sorted({logged.place for logged in done.log})
    for before, after in itertools.pairwise(logged.transition for logged in done.log):
        assert before.to_state is after.from_state
    assert not done.log or done.log[-1].transition.to_state is row.state


def test_the_histories_go_everywhere() -> None:
    luck = random.Random(1)
    went: set[tuple[State | None, State]] = set()
    for _ in range(1500):
        log = replay(history(luck.sample(range(NUMBERS), 40)), RULES, END, base()).log
        went |= {(logged.transition.from_state, logged.transition.to_state) for logged in log}

    meant = {(state, cell.to) for cells in TABLE.values() for state, cell in cells.items() if cell.to}
    meant |= {(state, State.ENGAGED) for cells in TABLE.values() for state, cell in cells.items() if cell.engages}
    assert went == {(state, to) for state, to in meant if state is not State.NEW}


def test_points_last_as_long_as_the_rules_say_and_nobody_stops_being_engaged_by_it() -> None:
    days = (1, 15.9, 16, 30, 44, 45.5)
    facts = [fact(Kind.DELIVERED, 0, "mail"), *(fact(Kind.SIGN, day, f"click {day}", once=f"{day}") for day in days)]
    at = {day: replay(facts[: n + 2], RULES, START, base()).row for n, day in enumerate(days)}

    assert {day: row.score for day, row in at.items()} == {1: 10, 15.9: 20, 16: 20, 30: 30, 44: 20, 45.5: 20}
    assert {row.state for day, row in at.items() if day > 15} == {State.ENGAGED}


# ── The story of a late click ──


def fact(kind: Kind, day: float, name: str, *, once: str = "", entered: float | None = None) -> Fact:
    return Fact(
        id=name,
        event=Event(kind, START + day * DAY, name, points=10),
        once=once,
        entered=None if entered is None else START + entered * DAY,
    )


def three_silent_mails() -> History:
    contact = History()
    contact.fold([fact(Kind.DELIVERED, 4 * n, f"mail {n}") for n in range(3)], START)
    return contact


def said(new: list[Logged]) -> list[tuple[str, str, bool]]:
    return [(row.transition.to_state.value, row.transition.why, row.taken_back) for row in new]


def after_days(days: float) -> datetime:
    return START + days * DAY


def test_silence_waits_for_the_watermark() -> None:
    contact = three_silent_mails()

    assert contact.row.state is State.ACTIVE
    assert contact.fold([], after_days(9.9)) == []
    assert said(contact.fold([], after_days(10))) == [("cooling", "attempts", False)]


def test_click_from_before_the_pause_takes_it_back_and_mail_tried_meanwhile_stays_sent() -> None:
    contact = three_silent_mails()
    contact.fold([fact(Kind.ENTERS_REACTIVATION, 16, "winback")], after_days(17))
    assert contact.row.state is State.TRYING

    new = contact.fold([fact(Kind.SIGN, 9, "click", once="click 3")], after_days(18))

    assert said(new) == [("trying", "reactivation", True), ("cooling", "attempts", True)]
    assert (contact.row.state, contact.row.ignored, contact.row.score) == (State.ACTIVE, 0, 10)


def test_click_judged_a_scanner_s_afterwards_brings_the_pause_again() -> None:
    contact = three_silent_mails()
    contact.fold([fact(Kind.SIGN, 9, "click", once="click 3")], after_days(11))
    assert contact.row.state is State.ACTIVE

    new = contact.fold([], after_days(12), void=["click"])

    assert said(new) == [("cooling", "attempts", False)]
    assert contact.row.since == after_days(10)


def test_click_after_the_pause_is_a_return() -> None:
    contact = three_silent_mails()
    contact.fold([], after_days(11))

    assert said(contact.fold([fact(Kind.SIGN, 11, "click", once="click 3")], after_days(11))) == [
        ("reactivated", "came_back", False)
    ]


def test_mail_that_bounced_after_all_was_no_attempt() -> None:
    contact = three_silent_mails()
    contact.fold([], after_days(11))

    assert said(contact.fold([], after_days(12), void=["mail 1"])) == [("cooling", "attempts", True)]
    assert contact.row.ignored == 2


def test_silent_through_every_cool_down_is_left_alone() -> None:
    contact = three_silent_mails()
    contact.fold([fact(Kind.ENTERS_REACTIVATION, 15, "first")], after_days(15))
    again = contact.fold([fact(Kind.REACTIVATION_SILENT, 20, "first ends", entered=15)], after_days(20))
    assert said(again) == [("cooling", "silent", False)]
    assert (contact.row.cycle, contact.row.cool_until) == (2, after_days(26))

    contact.fold([fact(Kind.ENTERS_REACTIVATION, 25, "too early")], after_days(25))
    assert contact.row.state is State.COOLING

    contact.fold([fact(Kind.ENTERS_REACTIVATION, 30, "second")], after_days(30))
    last = contact.fold([fact(Kind.REACTIVATION_SILENT, 40, "second ends", entered=30)], after_days(40))
    assert said(last) == [("resting", "silent", False)]


def test_veiled_windows_pause_later_than_ignored_ones() -> None:
    veiled, ignored = History(), History()
    for n in range(2):
        ignored.fold([fact(Kind.DELIVERED, 4 * n, f"mail {n}")], START)
        veiled.fold([fact(Kind.DELIVERED, 4 * n, f"mail {n}"), fact(Kind.VEILED, 4 * n, f"mail {n} veiled")], START)
    ignored.fold([], after_days(39))
    veiled.fold([], after_days(39))

    assert (ignored.row.state, ignored.row.since) == (State.COOLING, after_days(20))
    assert (veiled.row.state, veiled.row.unclear, veiled.row.ignored) == (State.ACTIVE, 2, 0)
    assert said(veiled.fold([], after_days(40))) == [("cooling", "days", False)]


def test_absence_holds_the_window() -> None:
    contact = three_silent_mails()
    away = Event(Kind.OUT_OF_OFFICE, after_days(9), "away", until=after_days(15))
    contact.fold([Fact(id="away", event=away)], after_days(14.9))
    assert contact.row.state is State.ACTIVE

    assert said(contact.fold([], after_days(15))) == [("cooling", "attempts", False)]


def unserved(begins: float, ends: float) -> Fact:
    event = Event(Kind.UNSERVED, after_days(begins), "outage", until=after_days(ends))
    return Fact(id=f"outage {begins}", event=event)


def test_window_is_prolonged_by_the_time_in_which_nobody_could_answer() -> None:
    contact = three_silent_mails()  # windows close on days 2, 6 and 10
    contact.fold([unserved(9, 14)], after_days(14.9))
    assert contact.row.state is State.ACTIVE

    assert said(contact.fold([], after_days(15))) == [("cooling", "attempts", False)]


def test_outages_that_overlap_count_once() -> None:
    contact = three_silent_mails()
    contact.fold([unserved(9, 12), unserved(9.5, 14), unserved(10, 11)], after_days(14.9))
    assert contact.row.state is State.ACTIVE

    assert said(contact.fold([], after_days(15))) == [("cooling", "attempts", False)]


def test_outage_that_is_learned_of_later_takes_the_pause_back() -> None:
    contact = three_silent_mails()
    contact.fold([], after_days(11))

    assert said(contact.fold([unserved(9, 14)], after_days(11))) == [("cooling", "attempts", True)]


def test_window_that_opens_in_an_outage_begins_at_its_end() -> None:
    contact = History()
    contact.fold([unserved(1, 5), fact(Kind.DELIVERED, 2, "mail")], after_days(6.9))
    assert contact.row.ignored == 0

    contact.fold([], after_days(7))
    assert contact.row.ignored == 1


def test_days_without_a_sign_are_not_over_in_an_outage() -> None:
    contact = History()
    contact.fold([fact(Kind.DELIVERED, 4 * n, f"mail {n}") for n in range(2)], after_days(18))
    contact.fold([unserved(19, 25)], after_days(24))
    assert contact.row.state is State.ACTIVE

    assert said(contact.fold([], after_days(25))) == [("cooling", "days", False)]


@settings(max_examples=HISTORIES // 10)
@given(numbers, st.integers(0, STEPS), st.integers(1, 100))
def test_nobody_is_called_silent_in_the_middle_of_an_outage(drawn: list[int], begins: int, steps: int) -> None:
    start = START + begins * STEP
    event = Event(Kind.UNSERVED, start, "outage", until=start + steps * STEP)

    log = replay([*history(drawn), Fact(id="the outage", event=event)], RULES, END, base()).log

    for logged in log:
        if logged.transition.why in ("attempts", "days"):
            assert not start < logged.transition.at < start + steps * STEP


@pytest.mark.parametrize(("reactivation", "why"), [(True, "reactivated"), (False, "came_back")])
def test_answer_to_a_reactivation_is_told_apart_from_a_return_of_their_own(reactivation: bool, why: str) -> None:
    contact = three_silent_mails()
    contact.fold([fact(Kind.ENTERS_REACTIVATION, 16, "winback")], after_days(16))
    click = Event(Kind.SIGN, after_days(17), "click", points=10, reactivation=reactivation)

    assert said(contact.fold([Fact(id="click", event=click, once="click 9")], after_days(17))) == [
        ("reactivated", why, False)
    ]


def test_who_may_not_be_measured_is_never_called_silent() -> None:
    contact = History()
    contact.fold([fact(Kind.DELIVERED_UNMEASURED, n, f"mail {n}") for n in range(30)], END)

    assert (contact.row.state, contact.row.ignored, contact.log) == (State.ACTIVE, 0, [])


def test_mail_inside_an_open_window_is_the_same_attempt() -> None:
    contact = History()
    contact.fold([fact(Kind.DELIVERED, n / 10, f"mail {n}") for n in range(20)], after_days(19))

    assert (contact.row.state, contact.row.ignored) == (State.ACTIVE, 1)


def test_mail_delivered_later_does_not_end_the_wait_for_the_watermark() -> None:
    contact = three_silent_mails()
    contact.fold([fact(Kind.DELIVERED, 30, "mail 4")], after_days(9.9))
    assert contact.log == []

    contact.fold([fact(Kind.SIGN, 9.5, "click", once="click 3")], after_days(31))
    assert (contact.row.state, contact.row.ignored, contact.log) == (State.ACTIVE, 0, [])


@pytest.mark.parametrize(
    ("new", "state", "cool_until"),
    [
        ({"attempts": 9}, State.COOLING, START + 36 * DAY),  # a pause by older rules stands
        ({"cool_downs": (20 * 86400.0,)}, State.COOLING, START + 26 * DAY),
        ({"cool_downs": (90 * 86400.0,)}, State.COOLING, START + 36 * DAY),
    ],
)
def test_facts_and_silence_go_by_the_rules_of_their_time(
    new: dict[str, object], state: State, cool_until: datetime
) -> None:
    old = Policy(attempts=2, window=86400.0, cool_downs=(30 * 86400.0,))
    facts = [Fact(id=f"mail {day}", event=Event(Kind.DELIVERED, START + day * DAY, "")) for day in (0, 5)]
    rules = [(NEVER, old), (START + 10 * DAY, msgspec.structs.replace(old, **new))]

    row = replay(facts, rules, START + 20 * DAY, base()).row

    assert (row.state, row.since, row.cool_until) == (state, START + 6 * DAY, cool_until)


def test_the_same_rules_under_many_versions_change_nothing() -> None:
    for seed in range(200):
        luck = random.Random(seed)
        facts = history(luck.sample(range(NUMBERS), 30))
        begins = sorted(START + luck.randrange(STEPS) * STEP for _ in range(3))
        rules = [(NEVER, POLICY), *((begin, POLICY) for begin in begins)]
        heard = START + luck.randrange(STEPS) * STEP

        assert replay(facts, rules, heard, base()) == replay(facts, RULES, heard, base())
