"""Synthetic recipients with stated behaviour, for the simulation. Pure but for the seed that is handed in.

What somebody would do with a mail of a day is drawn once, whoever sends it, so that
rules are compared over the same people on the same days.
"""

from random import Random

import msgspec


class Behaviour(msgspec.Struct, frozen=True):
    """A kind of person: how often they read a mail, and click in one that they read."""

    name: str
    share: float
    reads: float
    clicks: float
    stops: bool = False  # for good, on a day drawn from the whole span


# As stated in engine/README.md. The shares add up to 1.
BEHAVIOURS = (
    Behaviour("regular", 0.20, reads=0.60, clicks=0.15),
    Behaviour("occasional", 0.30, reads=0.20, clicks=0.10),
    Behaviour("rare", 0.15, reads=0.05, clicks=0.10),
    Behaviour("lost", 0.10, reads=0.60, clicks=0.15, stops=True),
    Behaviour("dead", 0.25, reads=0.0, clicks=0.0),
)

# Whose opens Apple's proxy hides; their clicks are seen.
VEILED = 0.3

# A mail is answered after hours, on average, and within days, or never.
MEAN_HOURS = 8.0
MOST_HOURS = 84.0


class Answer(msgspec.Struct, frozen=True):
    """A mail that was read: after so many hours, with a click or not."""

    hours: float
    clicked: bool


class Person(msgspec.Struct, frozen=True):
    """One recipient, and what they do with a mail of each day."""

    behaviour: Behaviour
    veiled: bool
    answers: tuple[Answer | None, ...]

    @property
    def alive(self) -> bool:
        """Reads now and then, to the end."""
        return self.behaviour.reads > 0 and not self.behaviour.stops


def person(number: int, seed: int, days: int) -> Person:
    """The same for the same number, seed and span."""
    luck = Random(f"{seed}/{number}")  # noqa: S311 (people, not secrets)
    at, behaviour = luck.random(), BEHAVIOURS[-1]
    for kind in BEHAVIOURS:
        at -= kind.share
        if at < 0:
            behaviour = kind
            break
    veiled = luck.random() < VEILED
    last = luck.randrange(days) if behaviour.stops else days
    answers = tuple(_answer(luck, behaviour) if day < last else None for day in range(days))
    return Person(behaviour, veiled, answers)


def _answer(luck: Random, behaviour: Behaviour) -> Answer | None:
    reads, clicks, hours = luck.random(), luck.random(), luck.expovariate(1 / MEAN_HOURS)
    if reads >= behaviour.reads:
        return None
    return Answer(min(hours, MOST_HOURS), clicks < behaviour.clicks)
