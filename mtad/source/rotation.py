"""Whose turn it is among sources with weights: smooth weighted round robin, as nginx has it. Pure."""

from collections.abc import Collection, Mapping


class Rotation:
    """Gives turns to names, each by its weight, and never many in a row to one.

    Invariants: with the same names eligible all the time, after every whole round (the sum
    of their weights) each has had exactly its weight, and at any moment nobody is as many
    turns from his share as there are names. Who is not eligible neither loses nor saves up turns.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = dict(weights)
        self._credit = dict.fromkeys(weights, 0)

    def turn(self, eligible: Collection[str]) -> str | None:
        """The next of these names; None where none of them takes part."""
        names = [name for name in self._weights if name in eligible]
        if not names:
            return None
        for name in names:
            self._credit[name] += self._weights[name]
        chosen = max(names, key=self._credit.__getitem__)
        self._credit[chosen] -= sum(self._weights[name] for name in names)
        return chosen
