"""Why somebody is in a state, and what comes next, in sentences: policy, facts, reason. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Protocol

from engine.outlook import Coming, Standing
from engine.policy import Policy
from mtad.ops.answers.times import local, span

INACTIVE = ("cooling", "trying", "resting")

_PHASES = {
    "cooling": "cools down",
    "trying": "is being asked by a reactivation",
    "resting": "is left alone, for every reactivation stayed silent",
}


def name_of(state: str) -> str:
    """The word for a state: the three phases of Inactive are one."""
    return "Inactive" if state in INACTIVE else state.capitalize()


class Change(Protocol):
    """A row of the log of transitions."""

    @property
    def stream(self) -> str: ...
    @property
    def to_state(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def fact(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def version(self) -> int | None: ...


def became(change: Change) -> str:
    """'Became Engaged at 2026-03-01 10:02:11 by a click on link 3 of nudge-2, job 17 (rules of sales, version 1).'"""
    what = "" if change.why == "entered" else f" (rules of {change.stream}, version {change.version})"
    return f"{_deed(change)} at {local(change.at)}{_by(change.fact)}{what if change.version else ''}."


_DEEDS = {
    "came_back": "Came back",
    "reactivated": "Came back, as an answer to a reactivation,",
    "reactivation": "Began to be asked whether to go on",
}


def _deed(change: Change) -> str:
    if change.why == "silent":
        resting = change.to_state == "resting"
        return "Stayed silent to the end and is left alone" if resting else "Became Inactive without a sign"
    again = " again" * (change.why == "entered")
    return _DEEDS.get(change.why, f"Became {name_of(change.to_state)}{again}")


def _by(fact: str) -> str:
    """A fact behind a time; what people do takes an article."""
    if not fact:
        return ""
    for article, deeds in (("an", ("open", "event", "answer")), ("a", ("click", "page", "visit", "reply"))):
        if fact.startswith(deeds):
            return f" by {article} {fact}"
    return f": {fact}"


def rules(stream: str, version: int, policy: Policy) -> str:
    """What decides, in a sentence."""
    points = policy.points
    return (
        f"The rules of {stream}, version {version}: Engaged at {policy.threshold} points (open {points.open},"
        f" click {points.click}, page {points.page}); Inactive after {policy.attempts} unanswered windows of"
        f" {span(policy.window, policy.day)}, or {policy.days} days without a sign."
    )


def standing(on: Standing, policy: Policy, *, measured: bool) -> str:
    """The facts that decide, in a sentence."""
    heard = f"last sign of life {local(on.last_sign)}" if on.last_sign else "no sign of life yet"
    if on.state in INACTIVE:
        return f"Inactive, {_PHASES[on.state]}; {heard}."
    if on.state == "new":
        return f"New: nothing was delivered yet; {heard}."
    said = [f"{on.score} of {policy.threshold} points since {local(on.round_from)}", heard]
    if measured:
        unclear = f", {on.unclear} unclear" if on.unclear else ""
        said.append(f"{on.ignored} of {policy.attempts} attempts ignored in a row{unclear}")
    else:
        said.append("silence says nothing, for there is no consent to be measured")
    return f"{name_of(on.state)}: {'; '.join(said)}."


def outlook(
    on: Standing, next_: Coming | None, policy: Policy, reactivations: Iterable[str], now: datetime
) -> Iterator[str]:
    """What comes next if nothing is heard."""
    programs = ", ".join(reactivations)
    takes = f"{programs} may ask" if programs else "a reactivation program may ask; none runs"
    if on.state in ("active", "reactivated") and on.score >= policy.threshold:
        yield "Next, with a sign of life: Engaged, for the points are there since the rules changed."
    match on.state:
        case "cooling" if on.cool_until and on.cool_until > now:
            left = len(policy.cool_downs) - on.cycle
            after = f"; {left} more may follow" if left > 0 else "; it is the last"
            yield f"Next: cool-down {on.cycle} ends at {local(on.cool_until)}, then {takes}{after}."
        case "cooling":
            yield f"Next: the cool-down is over; {takes}."
        case "trying":
            yield "Next: the reactivation goes on until there is a sign, or its end without one."
        case "resting":
            yield "Next: nothing, until there is a sign of life."
        case _ if next_ is None:
            yield "Next: nothing happens by itself."
        case _:
            yield f"Next, if nothing is heard: {next_.what} at {local(next_.at)}{', and so Inactive' * next_.pauses}."
