"""Why somebody is in a state, and what comes next, in sentences: policy, facts, reason. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime

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


def became(to_state: str, why: str, fact: str, at: datetime) -> str:
    """'Became Engaged at 2026-03-01 10:02:11 by a click on link 3 of nudge-2, job 17.'"""
    when = f"at {local(at)}{_by(fact)}"
    match why:
        case "came_back":
            return f"Came back {when}."
        case "reactivated":
            return f"Came back {when}, an answer to a reactivation."
        case "reactivation":
            return f"Began to be asked whether to go on {when}."
        case "silent" if to_state in INACTIVE:
            return f"{'Became Inactive' if to_state == 'cooling' else 'Was left alone'} {when}, without a sign."
        case "entered":
            return f"Became {name_of(to_state)} again {when}."
        case _:
            return f"Became {name_of(to_state)} {when}."


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
