"""How the mail of one lane is received, as one worker knows it: what became of it, and what that allows.

It says whether the lane is open, how many sessions it bears and how many mails each of
them, and when a mail that was not taken is tried again.
"""

from collections.abc import Callable
from functools import cache
from math import inf

from prometheus_client import Counter

from mtad.base.shape import Shape
from mtad.outcome.kinds import Bounced, Deferred, Delivered, InDoubt, Outcome, Scope
from mtad.pipeline.door import Door
from mtad.pipeline.endings import Mail, after_attempt, is_trouble, lenient, retry_of
from mtad.pipeline.tools import Tools
from mtad.queue import store
from mtad.queue.store import Ended, Returned, Trip
from mtad.queue.workers import IN_DOUBT
from mtad.shape.feedback import Concurrency
from mtad.smtp.results import Refused, Result

ATTEMPTS = Counter(
    "mtad_attempts_total", "Attempts by outcome, source and provider", ["outcome", "source", "provider"]
)  # fmt: skip

# A refusal for one of these says that somebody does not trust the source.
BLAMING = (Scope.SOURCE, Scope.SENDER, Scope.POLICY, Scope.DESTINATION)


@cache  # the tail makes lanes all the time
def _attempts(source: str, provider: str) -> dict[type[Outcome], Counter]:
    kinds = (Delivered, Bounced, Deferred, InDoubt)
    return {
        kind: ATTEMPTS.labels(outcome=kind.__name__.lower(), source=source, provider=provider) for kind in kinds
    }  # fmt: skip


class Reception:
    """Hears of every attempt of the lane."""

    def __init__(
        self, lane: store.Lane, shape: Shape, tools: Tools,
        *, close: Callable[[float, str], None], bears_more: Callable[[], None],
    ) -> None:  # fmt: skip
        """`close`: for so many seconds, and why; `bears_more`: there may be room for another session."""
        self.door = Door(shape.consecutive_connection_failures_before_delay)
        self.concurrency = Concurrency(lane.sessions)
        self.allowance = tools.allowances.of(lane.source, lane.provider)  # None: the source is established
        self._lane = lane
        self._shape = shape
        self._tools = tools
        self._close = close
        self._bears_more = bears_more
        self._provider = lane.source, lane.provider
        self._attempts = _attempts(lane.source, lane.provider)
        self._retries = [retry_of(class_, tools.retries, shape) for class_ in range(3)]

    def can(self, now: float) -> bool:
        """Whether mails could go: the lane is open, and its source is well."""
        if not self.door.is_open(now) or not self._tools.sources.is_well(self._lane.source):
            return False
        if self._shape.provider_message_rate and self._tools.providers.is_out(self._provider):
            return False
        return self.allowance is None or not self.allowance.is_used_up

    def opens_in(self, now: float) -> float:
        """Seconds until it may send again, as far as this worker knows; infinite: not by itself."""
        if self.allowance is not None and self.allowance.is_used_up:
            return inf
        return self.door.opens_in(now)

    @property
    def is_warming(self) -> bool:
        """Whether mails should go to those who are known best to read."""
        return self.allowance is not None

    @property
    def most_sessions(self) -> int:
        """Above it sessions end with the mail in their hand."""
        limit = self._tools.automation.limits(self._lane.id).sessions
        return self.concurrency.allowed if limit is None else min(limit, self.concurrency.allowed)

    @property
    def most_deliveries(self) -> int:
        """After so many mails a session is worn out."""
        limit = self._tools.automation.limits(self._lane.id).max_deliveries_per_connection
        configured = self._shape.max_deliveries_per_connection
        return configured if limit is None else min(limit, configured)

    def ending(self, mail: Mail, result: Result, since: int, trip: Trip) -> Ended | Returned:
        """What an attempt that began after `since` falls of the concurrency means for its mail; it is learnt from."""
        said = self._tools.classify(result)
        outcome = lenient(said, mail.facts.attempt) if isinstance(said, Bounced) else said
        self._attempts[type(outcome)].inc()
        if isinstance(result, Refused) and isinstance(outcome, Deferred | Bounced):
            self._tools.automation.heard(self._lane, mail.program.name, result, outcome)
        if closed := self.door.heard(said):
            self._close(closed, said.reply if isinstance(said, Bounced) else "")
        if self.allowance is not None and isinstance(outcome, Deferred | Bounced) and outcome.scope in BLAMING:
            self.allowance.refused()
        if is_trouble(outcome):
            self.concurrency.troubled(since)
        else:
            self.concurrency.succeeded(since)
            self._bears_more()
        if isinstance(outcome, InDoubt):
            IN_DOUBT.labels(cause="no_answer").inc()
        retry = self._retries[mail.facts.class_]
        return after_attempt(
            mail, outcome, retry, now=self._tools.clock.now(), luck=self._tools.luck(), trip=trip
        )  # fmt: skip
