"""What a policy would do: weekly mail to synthetic people, the machine of the states, a clock that is told.

`python -m engine.simulation` prints the table of engine/README.md. Every rule meets the
same people (engine/people.py), and nothing is sent.
"""

import argparse
import heapq
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from engine.people import Answer, Person, person
from engine.rules import Policy
from engine.states import TABLE, Event, Kind, Row, State, apply, new_row
from engine.timers import next_timer

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
DAY = timedelta(days=1)
EVERY = 7  # days between two mails to everybody

# The reactivation: three mails four days apart, then the window.
WAITS = (0, 4, 8)
ENDS = 12

# None to all, for the curve.
BARS = " ▁▂▃▄▅▆▇█"

_NEVER = 10_000


class Rule(msgspec.Struct, frozen=True):
    """A way to decide whom to leave alone: a policy, or so many mails without a sign in a row."""

    name: str
    policy: Policy
    unanswered: int | None = None  # mails without a sign that pause; None: the policy's windows
    never_answered: int | None = None  # the same for somebody who never gave a sign; None: as many


def _counting(name: str, unanswered: int, *, never: int | None = None, returns: bool) -> Rule:
    """Every mail counts, no window does; `returns`: with the cool-downs of the defaults, else for good."""
    cool_downs = Policy().cool_downs if returns else (_NEVER * 86400.0,)
    policy = Policy(attempts=_NEVER, days=_NEVER, days_unclear=_NEVER, cool_downs=cool_downs)
    return Rule(name, policy, unanswered, never)


EVERYBODY = Rule("everybody", Policy(attempts=_NEVER, days=_NEVER, days_unclear=_NEVER))
RULES = (
    EVERYBODY,
    _counting("every mail counts, 3 in a row", 3, returns=True),
    # HubSpot's "unengaged contacts": 11 mails never opened; 16 not opened in a row by somebody who did once.
    _counting("HubSpot's 11 and 16", 16, never=11, returns=False),
)


class Course(msgspec.Struct):
    """What became of one person under one rule."""

    mails: int = 0
    reads: int = 0
    paused: int = 0  # how often
    mailed_on: list[int] = msgspec.field(default_factory=list)  # the days of mail to everybody


class Outcome(msgspec.Struct, frozen=True):
    """What a rule came to, over all people."""

    rule: str
    mails: int
    reads: int
    living_paused: float  # share of the living who were paused at least once
    mailed: tuple[int, ...]  # how many were mailed, week by week


def simulate(rules: Sequence[Rule], *, contacts: int, days: int, seed: int) -> list[Outcome]:
    """Each rule over the same people; the same numbers for the same seed."""
    people = [person(number, seed, days + ENDS + 1) for number in range(contacts)]
    return [_outcome(rule, people, days) for rule in rules]


def _outcome(rule: Rule, people: Iterable[Person], days: int) -> Outcome:
    mails = reads = living = paused = 0
    mailed = [0] * -(-days // EVERY)
    for one in people:
        course = Life(one, rule).live(days)
        mails += course.mails
        reads += course.reads
        for day in course.mailed_on:
            mailed[day // EVERY] += 1
        if one.alive:
            living += 1
            paused += course.paused > 0
    return Outcome(rule.name, mails, reads, paused / max(living, 1), tuple(mailed))


class Life:
    """One person on one stream, from mail to mail."""

    def __init__(self, person: Person, rule: Rule) -> None:
        self._person = person
        self._rule = rule
        self._row: Row = new_row(START)
        self._now = START
        self._silent = 0  # mails since the last sign
        # (time, what comes first at one time, reactivation begun, what)
        self._agenda: list[tuple[datetime, int, int, str]] = []
        self._answers: dict[int, Answer] = {}
        self._course = Course()

    def live(self, days: int) -> Course:
        """Mail every week, and reactivations where cool-downs end."""
        for day in range(0, days, EVERY):
            self._at(day * DAY, 2, 0, "mail")
        while self._agenda and self._agenda[0][0] < START + days * DAY:
            at, _, number, what = heapq.heappop(self._agenda)
            self._timers(at)
            self._now = at
            match what:
                case "mail":
                    self._mail(at)
                case "answer":
                    self._sign(self._answers[number])
                case "reactivate":
                    self._reactivate()
                case "again":
                    self._mail_again(number)
                case _:
                    self._silent_end(number)
        return self._course

    def _at(self, after: timedelta, rank: int, number: int, what: str) -> None:
        heapq.heappush(self._agenda, (START + after, rank, number, what))

    def _apply(self, event: Event) -> None:
        before = self._row.state
        self._row, moved = apply(self._row, event, self._rule.policy)
        if moved and moved.to_state is State.COOLING:
            self._course.paused += before is not State.TRYING
            assert self._row.cool_until is not None
            self._at(self._row.cool_until - START, 1, 0, "reactivate")

    def _event(self, kind: Kind, points: int = 0) -> None:
        self._apply(Event(kind, self._now, "", points))

    def _timers(self, until: datetime) -> None:
        while (timer := next_timer(self._row, self._rule.policy, self._now)) and timer.at <= until:
            self._now = timer.at
            self._apply(timer)

    def _mail(self, at: datetime) -> None:
        """One mail to everybody, if the table does not refuse it."""
        limit = self._rule.unanswered
        if limit is not None and self._row.last_sign is None and self._rule.never_answered is not None:
            limit = self._rule.never_answered
        if limit is not None and self._silent >= limit and not TABLE[Kind.ENTERS_CAMPAIGN][self._row.state].refused:
            self._silent = 0
            self._event(Kind.WINDOW_LAST)
        if TABLE[Kind.ENTERS_CAMPAIGN][self._row.state].refused:
            return
        self._event(Kind.ENTERS_CAMPAIGN)
        self._course.mailed_on.append((at - START) // DAY)
        self._deliver()

    def _deliver(self) -> None:
        day = (self._now - START) // DAY
        self._course.mails += 1
        self._silent += 1
        self._event(Kind.DELIVERED)
        if self._person.veiled:
            self._event(Kind.VEILED)
        if answer := self._person.answers[day]:
            self._course.reads += 1
            if answer.clicked or not self._person.veiled:
                self._answers[day] = answer
                self._at(self._now - START + timedelta(hours=answer.hours), 0, day, "answer")

    def _sign(self, answer: Answer) -> None:
        self._silent = 0
        if not self._person.veiled:
            self._event(Kind.SIGN, self._rule.policy.points.open)
        if answer.clicked:
            self._event(Kind.SIGN, self._rule.policy.points.click)

    def _reactivate(self) -> None:
        self._event(Kind.ENTERS_REACTIVATION)
        if self._row.state is not State.TRYING:
            return
        began = self._now - START
        number = began // DAY
        for wait in WAITS:
            self._at(began + wait * DAY, 1, number, "again")
        self._at(began + ENDS * DAY, 1, number, "end")

    def _mail_again(self, number: int) -> None:
        if self._tries(number):
            self._deliver()

    def _silent_end(self, number: int) -> None:
        if self._tries(number):
            left = self._row.cycle < len(self._rule.policy.cool_downs)
            self._event(Kind.REACTIVATION_SILENT if left else Kind.REACTIVATION_LAST)

    def _tries(self, number: int) -> bool:
        return self._row.state is State.TRYING and (self._row.since - START) // DAY == number


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """As Markdown; shares are of mailing everybody, the first outcome."""
    everybody = outcomes[0]
    yield "| rule | mails | of all | reads kept | living readers paused | mailed, week by week |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in outcomes:
        mails, reads = one.mails / everybody.mails, one.reads / max(everybody.reads, 1)
        curve = "".join(BARS[round(n / max(everybody.mailed) * (len(BARS) - 1))] for n in one.mailed)
        yield f"| {one.rule} | {one.mails:,} | {mails:.0%} | {reads:.0%} | {one.living_paused:.0%} | {curve} |"


def main(arguments: Sequence[str]) -> None:
    """Print the table for the defaults."""
    parser = argparse.ArgumentParser(prog="python -m engine.simulation", description="What a policy would do.")
    parser.add_argument("--contacts", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    newsletter = Policy(attempts=8, days=180, days_unclear=360)
    rules = (*RULES, Rule("windows, 5 attempts", Policy()), Rule("windows, 8 attempts", newsletter))
    outcomes = simulate(rules, contacts=given.contacts, days=given.days, seed=given.seed)
    sys.stdout.write("\n".join(table(outcomes)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
