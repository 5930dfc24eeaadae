"""Counts as every answer about a program gives them. Pure."""

import msgspec


class Pending(msgspec.Struct, frozen=True):
    """What is still queued: never tried, tried and deferred, under way, and perhaps delivered already."""

    waiting: int
    deferred: int
    begun: int
    in_doubt: int

    @property
    def total(self) -> int:
        return self.waiting + self.deferred + self.begun + self.in_doubt


def by_reason(counts: dict[str, int], prefix: str) -> dict[str, int]:
    """Of counts by key those under `prefix:`, by what follows it, the largest first; none that is 0."""
    start = prefix + ":"
    found = {key.removeprefix(start): n for key, n in counts.items() if key.startswith(start) and n}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
