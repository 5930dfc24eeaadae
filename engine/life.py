"""One synthetic person on one stream, from mail to mail: the states, the gate, and a clock that is told."""

import heapq
from datetime import UTC, datetime, timedelta

import msgspec

from engine.facts import Defer, Facts, Send, Skip, Verdict
from engine.gate import Context, verdict
from engine.people import Answer, Person
from engine.programs import Definition, EndNode, SendNode
from engine.replay import lapsed
from engine.rules import MOST_CAP, Policy
from engine.states import Event, Kind, Row, State, apply, new_row
from engine.timers import next_timer

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
DAY = timedelta(days=1)

# The reactivation: three mails four days apart, then the window.
WAITS = (0, 4, 8)
ENDS = 12

# Longer than any simulation: what rules that count mails say instead of windows and days.
NEVER = 10_000

# What the gate is told of everybody: somebody who may be mailed, and a mail that keeps for two weeks.
_KEEPS = timedelta(days=14)
_FACTS = Facts(
    job_id=0, contact_id=1, stream_id=1, program_id=1, version=1, message_id=1, entry_id=None, site_id=0, class_=2,
    attempt=0, doubts=0, created=START, not_after=START, node="mail", address="a@example.com",
    address_key="a@example.com", domain="example.com", locale=None, zone=None, attributes={}, erased=False,
    subscription="subscribed", break_until=None, tracking=None, suppressed_all=None, suppressed_marketing=None,
    state=None, since=None, cool_until=None, cycle=0, entry_ended=False, entry_why=None, gate_version=1,
    program_fence=1, program_status="running", stream_version=1, epoch=1,
)  # fmt: skip


class Rule(msgspec.Struct, frozen=True):
    """Whom to leave alone: as a policy says, or after so many mails without a sign in a row."""

    name: str
    policy: Policy
    unanswered: int | None = None  # mails without a sign that pause; None: the policy's windows
    never_answered: int | None = None  # the same for somebody who never gave a sign; None: as many


class Course(msgspec.Struct):
    """What became of one person under one rule."""

    mails: int = 0
    reads: int = 0
    paused_on: list[int] = msgspec.field(default_factory=list)  # days
    mailed: list[int] = msgspec.field(default_factory=list)  # which of the mails to everybody, from 0
    states: list[State] = msgspec.field(default_factory=list)  # at each of them, before it


class Life:
    """One person under one rule; answers are those of the person, whatever the rule."""

    def __init__(self, person: Person, rule: Rule) -> None:
        self._person = person
        self._rule = rule
        self._row: Row = new_row(START)
        self._now = START
        self._earned: list[tuple[datetime, int]] = []
        self._silent = 0  # mails since the last sign
        # (time, what comes first at one time, number of a mail or day of a reactivation, what)
        self._agenda: list[tuple[datetime, int, int, str]] = []
        self._answers: dict[int, Answer] = {}
        self._course = Course()
        campaign = Definition(
            name="mail", kind="campaign", stream="stream", first="mail",
            nodes={"mail": SendNode("mail", "end"), "end": EndNode()}, on_engaged=rule.policy.on_engaged.campaign,
        )  # fmt: skip
        self._context = Context(campaign, frozenset(), policy=rule.policy)
        reactivation = msgspec.structs.replace(campaign, kind="reactivation")
        self._asking = Context(reactivation, frozenset(), policy=rule.policy)
        self._known: dict[tuple[bool, State, bool], Verdict] = {}
        self._counts = bool(rule.policy.slots.caps or rule.policy.slots.caps_all)
        self._sent: list[datetime] = []  # as far as caps count them

    def live(self, days: int, every: int) -> Course:
        """A mail every so many days, and reactivations where cool-downs end."""
        for number, day in enumerate(range(0, days, every)):
            self._at(day * DAY, 2, number, "mail")
        while self._agenda and self._agenda[0][0] < START + days * DAY:
            at, _, number, what = heapq.heappop(self._agenda)
            self._timers(at)
            self._now = at
            match what:
                case "mail":
                    self._course.states.append(self._row.state)
                    self._mail(number, created=at)
                case "deferred":
                    self._mail(number, created=START + number * every * DAY)
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
            if before is not State.TRYING:
                self._course.paused_on.append((event.at - START) // DAY)
            assert self._row.cool_until is not None
            self._at(self._row.cool_until - START, 1, 0, "reactivate")

    def _event(self, kind: Kind, points: int = 0) -> None:
        self._apply(Event(kind, self._now, "", points))

    def _earn(self, points: int) -> None:
        """A sign; what it was worth is remembered only where points do not last."""
        policy = self._rule.policy
        if not policy.points_last:
            self._event(Kind.SIGN, points)
            return
        self._row = lapsed(self._row, reversed(self._earned), self._now, policy)
        self._event(Kind.SIGN, points)
        if self._row.score:
            self._earned.append((self._now, points))

    def _timers(self, until: datetime) -> None:
        while (timer := next_timer(self._row, self._rule.policy, self._now)) and timer.at <= until:
            self._now = timer.at
            self._apply(timer)

    def _mail(self, number: int, created: datetime) -> None:
        """One mail to everybody, if the gate lets it go."""
        self._count_mails()
        match self._verdict(self._context, created):
            case Skip():
                return
            case Defer(until):
                self._at(until - START, 2, number, "deferred")
                return
        self._event(Kind.ENTERS_CAMPAIGN)
        self._course.mailed.append(number)
        self._deliver()

    def _verdict(self, context: Context, created: datetime) -> Verdict:
        row = self._row
        if not self._rule.policy.slots.hold_nothing:
            return self._asked(context, created)
        # Without caps and hours the gate's answer to the same state is the same: asking each
        # time was a third of all work.
        key = (context is self._asking, row.state, row.since > created)
        if (known := self._known.get(key)) is None:
            known = self._known[key] = self._asked(context, created)
        return known

    def _asked(self, context: Context, created: datetime) -> Verdict:
        row = self._row
        facts = msgspec.structs.replace(
            _FACTS, state=None if row.state is State.NEW else row.state, since=row.since, cool_until=row.cool_until,
            cycle=row.cycle, created=created, not_after=created + _KEEPS, sent=self._sent,
            sent_on=[1] * len(self._sent),
        )  # fmt: skip
        return verdict(facts, context, self._now)

    def _count_mails(self) -> None:
        """What a rule that counts mails does where ours closes a window."""
        limit = self._rule.unanswered
        if limit is not None and self._row.last_sign is None and self._rule.never_answered is not None:
            limit = self._rule.never_answered
        mailed = self._row.state in (State.ACTIVE, State.ENGAGED, State.REACTIVATED)
        if limit is not None and self._silent >= limit and mailed:
            self._silent = 0
            self._event(Kind.WINDOW_LAST)

    def _deliver(self) -> None:
        day = (self._now - START) // DAY
        self._course.mails += 1
        self._silent += 1
        if self._counts:
            self._sent = [*self._sent, self._now][-MOST_CAP:]
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
            self._earn(self._rule.policy.points.open)
        if answer.clicked:
            self._earn(self._rule.policy.points.click)

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
        """A mail of the reactivation that began on that day, if it still goes on."""
        if not self._tries(number):
            return
        match self._verdict(self._asking, self._now):
            case Defer(until):
                self._at(until - START, 1, number, "again")
            case Send():
                self._deliver()

    def _silent_end(self, number: int) -> None:
        if self._tries(number):
            left = self._row.cycle < len(self._rule.policy.cool_downs)
            self._event(Kind.REACTIVATION_SILENT if left else Kind.REACTIVATION_LAST)

    def _tries(self, number: int) -> bool:
        return self._row.state is State.TRYING and (self._row.since - START) // DAY == number
