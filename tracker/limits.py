"""How often somebody may use a form. Pure: told the time."""

from collections import OrderedDict

from tracker.desk import BURST, REFILL, WIDER


class Limits:
    """So many uses at once, and then one each `refill` seconds, for each key; at most `most_keys` are known.

    Who was longest not seen is forgotten first: memory has a bound, and a flood of new keys can
    only make us kinder to old ones.
    """

    def __init__(self, *, burst: int, refill: float, most_keys: int = 10_000) -> None:
        self._burst = burst
        self._refill = refill
        self._most_keys = most_keys
        self._free_at: OrderedDict[str, float] = OrderedDict()  # when all uses will be there again

    def take(self, key: str, now: float) -> bool:
        """Use it once at `now`, in seconds of a clock that never goes back; False: too often."""
        free_at = max(self._free_at.pop(key, now), now)
        allowed = free_at - now <= (self._burst - 1) * self._refill
        self._free_at[key] = free_at + self._refill if allowed else free_at
        if len(self._free_at) > self._most_keys:
            self._free_at.popitem(last=False)
        return allowed


class FormLimits:
    """BURST uses at once and then one each REFILL seconds; of what is `wider` than such a key WIDER times as many."""

    def __init__(self) -> None:
        self._narrow = Limits(burst=BURST, refill=REFILL)
        self._wide = Limits(burst=WIDER * BURST, refill=REFILL / WIDER)

    def take(self, key: str, wider: str, now: float) -> bool:
        """As `Limits.take`, of both; one key alone uses up little of the wider one."""
        return self._narrow.take(key, now) and self._wide.take(wider, now)
