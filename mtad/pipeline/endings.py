"""What a verdict or an outcome means for the job and its entry. Pure."""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import assert_never

import msgspec

from engine.facts import Defer, Facts, Reason
from engine.programs import next_stop
from engine.service import Program, Stream
from mtad.base.retry import Retries
from mtad.base.shape import Shape
from mtad.outcome.classify import action_of
from mtad.outcome.kinds import Action, Bounced, Deferred, Delivered, InDoubt, Outcome, Scope
from mtad.outcome.retry import delay_before_retry
from mtad.queue.store import Ended, Returned, Trip

# A skip for one of these is about this mail only; its entry goes on to the next step.
_ONLY_THIS_MAIL = (Reason.TOO_LATE, Reason.MISSING_VALUE, Reason.CONTENT)

# A mail that was refused for good because of us bounces with this attempt, and not before.
MOST_BLAMED = 3

# Reasons are counted by their text (table tally), so it must stay one short line.
LONGEST_REASON = 200


class Mail(msgspec.Struct, frozen=True, gc=False):
    """A claimed job that the gate lets go, with what composing it needs."""

    facts: Facts
    program: Program
    stream: Stream


class Retry(msgspec.Struct, frozen=True):
    """When mail of one class to one destination is tried again. Delays in seconds."""

    interval: float
    longest: float
    in_doubt: float
    factor: float = 2.0
    jitter: float = 0.5


@lru_cache(maxsize=64)  # lanes under the same tables have the same Shape; the tail opens lanes all the time
def retry_of(class_: int, retries: Retries, shape: Shape) -> Retry:
    """From the configuration: what the class does not set is the destination's."""
    first, longest, in_doubt = (
        retries.seconds(class_, knob, shape) for knob in ("retry_interval", "max_retry_interval", "in_doubt_interval")
    )
    return Retry(first, longest, in_doubt, retries.of(class_).retry_factor, retries.of(class_).retry_jitter)


def ended_by_skip(facts: Facts, program: Program, reason: str) -> Ended:
    """The gate, or composing, says no for good."""
    reason = reason[:LONGEST_REASON]
    head = reason.partition(":")[0]
    # A mail that was tried and is now too old has expired; one never tried came too late.
    outcome = "expired" if head == Reason.TOO_LATE and facts.attempt else "skipped"
    if head in _ONLY_THIS_MAIL:
        return _moved_on(Ended(facts, outcome, reason, attempts=facts.attempt), program)
    instead = program.definition.instead if head == Reason.INACTIVE else ""
    return Ended(facts, outcome, reason, attempts=facts.attempt, why=head, redirect=instead)


def ended_by_proof(facts: Facts, program: Program, at: datetime) -> Ended:
    """A mail in doubt that a person has read since: it arrived, and is not sent again."""
    proof = "no answer to the final dot, but a person opened it or clicked in it"
    return _moved_on(Ended(facts, "delivered", reply=proof, attempts=facts.attempt, ended=at), program)


def ended_by_doubt(facts: Facts, program: Program) -> Ended:
    """A mail in doubt that nobody has read since, of a class that is never sent twice."""
    why = "no answer to the final dot; not sent again"
    return _moved_on(Ended(facts, "in_doubt", reply=why, attempts=facts.attempt), program)


def returned_by_deferral(facts: Facts, verdict: Defer, now: datetime) -> Returned:
    """The gate says later."""
    delay = max((verdict.until - now).total_seconds(), 0.0)
    return Returned(facts, delay, verdict.reason, facts.attempt)


def after_attempt(
    mail: Mail, outcome: Outcome, retry: Retry, *, now: datetime, luck: float, trip: Trip | None = None
) -> Ended | Returned:
    """What to write down after an attempt; `luck` in [0, 1) spreads the retries."""
    facts = mail.facts
    attempts = facts.attempt + 1
    match outcome:
        case Delivered(reply, dot_at, at):
            ended = Ended(facts, "delivered", reply=reply, attempts=attempts, dot_at=dot_at, ended=at, trip=trip)
            return _moved_on(ended, mail.program)
        case Bounced(scope, category, reply, suppress):
            ended = Ended(
                facts, "bounced", category, scope=scope, reply=reply, attempts=attempts, suppress=suppress,
                why="bounced" if suppress else None, trip=trip,
            )  # fmt: skip
            return ended if suppress else _moved_on(ended, mail.program)
        case Deferred(scope, category, reply, after):
            delay = delay_before_retry(
                attempts, first=retry.interval, ceiling=retry.longest, luck=luck, factor=retry.factor,
                jitter=retry.jitter, after=after,
            )  # fmt: skip
            if now + timedelta(seconds=delay) < facts.not_after:
                return Returned(facts, delay, reply, attempts, trip=trip, category=category, scope=scope)
            ended = Ended(facts, "expired", category, scope=scope, reply=reply, attempts=attempts, trip=trip)
            return _moved_on(ended, mail.program)
        case InDoubt(reply):
            if now + timedelta(seconds=retry.in_doubt) < facts.not_after:
                return Returned(facts, retry.in_doubt, f"in doubt: {reply}", attempts, doubt=True, trip=trip)
            return _moved_on(Ended(facts, "in_doubt", reply=reply, attempts=attempts, trip=trip), mail.program)
        case _:
            assert_never(outcome)


def lenient(outcome: Outcome, attempt: int) -> Outcome:
    """The outcome of a mail that was tried `attempt` times before, where it is refused for good because of us.

    "Your address is blocked" is no word about this mail: a block is lifted, and another
    source may be trusted, so it is tried again, a few times.
    """
    if attempt + 1 < MOST_BLAMED and isinstance(outcome, Bounced) and action_of(outcome) is Action.SUSPEND:
        return Deferred(outcome.scope, outcome.category, outcome.reply)
    return outcome


def is_trouble(outcome: Outcome) -> bool:
    """Whether fewer sessions may help: the server pushed back, or was not there. Greylisting is not."""
    match outcome:
        case Delivered():
            return False
        case InDoubt():
            return True
        case Deferred(scope=Scope.DESTINATION):
            return True
        case Deferred() | Bounced():
            return action_of(outcome) in (Action.SLOW, Action.SUSPEND)
        case _:
            assert_never(outcome)


def _moved_on(ended: Ended, program: Program) -> Ended:
    """The entry, if there is one, goes on to the next step; the wait counts from this ending."""
    facts = ended.facts
    if facts.entry_id is None:
        return ended
    stop = next_stop(program.definition, facts.node)
    return msgspec.structs.replace(ended, next_node=stop.node, next_wait=stop.wait)
