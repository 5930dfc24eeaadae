"""What rules would do: mail to the same synthetic people under each, summed up. Nothing is sent.

`mtad simulate` shows it; engine/README.md has the table of the defaults.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from engine.life import DAY, ENDS, NEVER, Course, Life, Rule
from engine.people import Person, person
from engine.policytable import PRESETS, PolicyTable, parse_policy
from engine.rules import Policy
from engine.silence import may_pause

__all__ = ["COMPARED", "EVERYBODY", "Outcome", "Rule", "brake_at", "in_days", "presets", "simulate", "summed"]


def _counting(name: str, unanswered: int, *, never: int | None = None, returns: bool) -> Rule:
    """Every mail counts, no window does; `returns`: with the cool-downs of the defaults, else for good."""
    cool_downs = Policy().cool_downs if returns else (NEVER * 86400.0,)
    policy = Policy(attempts=NEVER, days=NEVER, days_unclear=NEVER, cool_downs=cool_downs)
    return Rule(name, policy, unanswered, never)


EVERYBODY = "everybody"

# Beside whatever is simulated.
COMPARED = (
    _counting("every mail counts, 3 in a row", 3, returns=True),
    # HubSpot's "unengaged contacts": 11 mails never opened; 16 not opened in a row by somebody who did once.
    _counting("HubSpot's 11 and 16", 16, never=11, returns=False),
)


def presets() -> list[Rule]:
    """The policies of a stream whose file says no more than a preset."""
    named = {name: parse_policy(msgspec.convert(raw, PolicyTable)) for name, raw in PRESETS.items()}
    return [Rule(f"{name}: {policy.attempts} attempts", policy) for name, policy in named.items()]


def in_days(policy: Policy) -> Policy:
    """The same policy with days of 24 hours: a demo's are seconds."""
    factor = DAY.total_seconds() / policy.day
    slots = policy.slots

    def longer(spans: Iterable[float]) -> tuple[float, ...]:
        return tuple(span * factor for span in spans)

    return msgspec.structs.replace(
        policy,
        day=DAY.total_seconds(),
        window=policy.window * factor,
        cool_downs=longer(policy.cool_downs),
        slots=msgspec.structs.replace(
            slots,
            caps=tuple(msgspec.structs.replace(cap, window=cap.window * factor) for cap in slots.caps),
            caps_all=tuple(msgspec.structs.replace(cap, window=cap.window * factor) for cap in slots.caps_all),
        ),
    )


class Outcome(msgspec.Struct, frozen=True):
    """What a rule came to, over so many people. Sums, so that those of several crowds can be added."""

    rule: str
    contacts: int
    mails: int
    reads: int
    living: int  # who read to the end
    living_paused: int  # of them, at least once
    mailed: tuple[int, ...]  # how many got each mail to everybody
    states: tuple[dict[str, int], ...]  # and how many were in which state before it
    paused: tuple[int, ...]  # how many became Inactive, day by day


def simulate(rules: Sequence[Rule], crowd: range, *, days: int, every: int, seed: int) -> list[Outcome]:
    """Mail every so many days to the people of these numbers, under each rule; the same for the same seed.

    The first outcome is that of mailing everybody, whatever they do.
    """
    people = [person(number, seed, days + ENDS + 1) for number in crowd]
    return [_everybody(people, days, every), *(_outcome(rule, people, days, every) for rule in rules)]


def summed(parts: Iterable[Sequence[Outcome]]) -> list[Outcome]:
    """Outcomes of the same rules over several crowds as those over all of them."""
    return [_sum(column) for column in zip(*parts, strict=True)]


def brake_at(outcome: Outcome, policy: Policy, every: int) -> tuple[int, int] | None:
    """The first day on which more become Inactive than the policy's brake lets pass, and how many; None: never."""
    for day, paused in enumerate(outcome.paused):
        if paused > may_pause(policy.brake, reachable=outcome.mailed[day // every], paused=0):
            return day, paused
    return None


def _everybody(people: Sequence[Person], days: int, every: int) -> Outcome:
    mailings = range(0, days, every)
    return Outcome(
        rule=EVERYBODY,
        contacts=len(people),
        mails=len(people) * len(mailings),
        reads=sum(one.answers[day] is not None for one in people for day in mailings),
        living=sum(one.alive for one in people),
        living_paused=0,
        mailed=(len(people),) * len(mailings),
        states=({},) * len(mailings),
        paused=(0,) * days,
    )


def _outcome(rule: Rule, people: Sequence[Person], days: int, every: int) -> Outcome:
    mailings = len(range(0, days, every))
    mails = reads = living_paused = 0
    mailed, paused = [0] * mailings, [0] * days
    states: list[dict[str, int]] = [{} for _ in range(mailings)]
    for one in people:
        course: Course = Life(one, rule).live(days, every)
        mails += course.mails
        reads += course.reads
        living_paused += one.alive and bool(course.paused_on)
        for number in course.mailed:
            mailed[number] += 1
        for day in course.paused_on:
            paused[day] += 1
        for counts, state in zip(states, course.states, strict=True):
            counts[state] = counts.get(state, 0) + 1
    living = sum(one.alive for one in people)
    return Outcome(
        rule.name, len(people), mails, reads, living, living_paused, tuple(mailed), tuple(states), tuple(paused)
    )


def _sum(parts: Sequence[Outcome]) -> Outcome:
    return Outcome(
        rule=parts[0].rule,
        contacts=sum(part.contacts for part in parts),
        mails=sum(part.mails for part in parts),
        reads=sum(part.reads for part in parts),
        living=sum(part.living for part in parts),
        living_paused=sum(part.living_paused for part in parts),
        mailed=tuple(map(sum, zip(*(part.mailed for part in parts), strict=True))),
        states=tuple(
            dict(sum((Counter(counts) for counts in same), Counter()))
            for same in zip(*(part.states for part in parts), strict=True)
        ),
        paused=tuple(map(sum, zip(*(part.paused for part in parts), strict=True))),
    )
