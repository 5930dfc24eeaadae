"""How many sessions a lane may ask for: few at first, more with success, half at once with trouble. Pure.

Postfix's concurrency feedback with TCP's slow start before it. Up to the number at which
the last trouble began, each mail that was taken allows one more session, so a round over
all sessions doubles them; beyond, a whole round allows one more.
"""

import msgspec

# Postfix: initial_destination_concurrency.
INITIAL = 5


class Concurrency(msgspec.Struct):
    """The sessions of one lane in one worker.

    Invariants: 1 ≤ allowed ≤ limit; trouble halves, and all that was under way when it
    did reports one and the same trouble; success never lowers it.
    """

    limit: int
    falls: int = 0  # how often it was halved; what begins now is told this number
    _window: float = float(INITIAL)
    _calm: float = float("inf")  # so many never were trouble

    @property
    def allowed(self) -> int:
        """Sessions that may be open."""
        return min(int(self._window), self.limit)

    def succeeded(self, since: int) -> None:
        """A mail that began after `since` falls was answered by a server that has nothing against us."""
        if since == self.falls and self._window < self.limit:
            self._window += 1.0 if self._window < self._calm else 1.0 / self._window

    def troubled(self, since: int) -> None:
        """A server pushed back, or could not be reached, with what began after `since` falls."""
        if since == self.falls:
            self._calm = self._window = max(1.0, self.allowed / 2)
            self.falls += 1
