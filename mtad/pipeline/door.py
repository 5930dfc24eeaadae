"""Whether a lane is open, as one worker knows it, and for how long it closes. Pure: the caller has the clock."""

from mtad.outcome.classify import action_of
from mtad.outcome.kinds import Action, Bounced, Delivered, Outcome

# After a connection could not be had: closed for this, doubled each time, at most the last.
CLOSED_FIRST, CLOSED_LONGEST = 10.0, 600.0

# A lane all of whose mails are refused for good because of us, so many in a row, would lose
# one mail after the other: closed for this, doubled each time until one is delivered.
BLAMED_IN_A_ROW = 3
BLAMED_FIRST, BLAMED_LONGEST = 600.0, 4 * 3600.0

# After the lane was found closed, or without tokens or free sessions, this worker
# claims nothing for it for so long. Longer waits are the site's hint in the database,
# so that a lane which is opened by hand is noticed at once.
SHUT_FOR = 1.0


class Door:
    """Times are monotonic, spans are in seconds."""

    def __init__(self, failures_before_delay: int) -> None:
        """`failures_before_delay`: connections in a row that may fail before it closes."""
        self.why = ""  # what was the last to close it
        self._most_failures = failures_before_delay
        self._failures = 0  # connections in a row
        self._blamed = 0  # mails in a row that were refused for good because of us
        self._blocks = 0  # how often in a row that closed the lane
        self._shut_until = 0.0
        self._opens_at = 0.0  # when it may open, where that is known to be later

    def is_open(self, now: float) -> bool:
        """Whether this worker sends."""
        return now >= self._shut_until

    def opens_in(self, now: float) -> float:
        """Seconds until it opens, as far as this worker knows."""
        return max(self._shut_until, self._opens_at) - now

    def is_spotless(self, now: float) -> bool:
        """Whether there is nothing to remember of it."""
        return not (self._failures or self._blocks) and self.is_open(now)

    def shut(self, now: float, span: float = SHUT_FOR, why: str = "") -> None:
        """Nothing can be sent for `span` seconds; this worker looks again sooner."""
        self._shut_until, self._opens_at, self.why = now + SHUT_FOR, now + span, why

    def connected(self) -> None:
        """A server took mail."""
        self._failures = 0

    def cannot_connect(self, now: float) -> float:
        """One more connection could not be had: for how long the lane closes for all, 0 where it stays open."""
        self._failures += 1
        beyond = self._failures - self._most_failures
        if beyond < 0:
            return 0.0
        self._shut_until = now + SHUT_FOR
        return _doubled(CLOSED_FIRST, beyond, CLOSED_LONGEST)

    def heard(self, outcome: Outcome) -> float:
        """What became of a mail: for how long the lane closes for all, because it is we who are refused; mostly 0."""
        match outcome:
            case Delivered():
                self._blamed = self._blocks = 0
            case Bounced() if action_of(outcome) is Action.SUSPEND:
                self._blamed += 1
                if self._blamed == BLAMED_IN_A_ROW:
                    self._blamed = 0
                    self._blocks += 1
                    return _doubled(BLAMED_FIRST, self._blocks - 1, BLAMED_LONGEST)
            case _:
                pass
        return 0.0


def _doubled(first: float, times: int, most: float) -> float:
    return min(first * 2.0 ** min(times, 10), most)
