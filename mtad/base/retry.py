"""[retry.CLASS]: when mail of a class is tried again, for how long, and what happens to mail in doubt."""

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from mtad.base.section import Section, seconds
from mtad.base.shape import Shape, Shaping

_DURATIONS = ("retry_interval", "max_retry_interval", "max_age", "in_doubt_interval")


class Retry(Section, frozen=True, kw_only=True):
    """What a class does not set is that of [shape], and of the destination."""

    retry_interval: str | UnsetType = UNSET
    """Delay after the first 4xx."""
    max_retry_interval: str | UnsetType = UNSET
    """The longest delay between two attempts."""
    retry_factor: Annotated[float, msgspec.Meta(ge=1, le=10)] = 2.0
    """By how much each delay is longer than the one before."""
    retry_jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    """Which part of a delay is random, so that what failed together does not come back together."""
    max_age: str | UnsetType = UNSET
    """A mail that is older is given up as expired."""
    in_doubt_interval: str | UnsetType = UNSET
    """Delay after a lost answer to the final dot."""
    in_doubt: Literal["retry", "give_up"] = "retry"
    """After that delay: send again, which may be a second copy, or end it as in doubt, which may be none."""


class Transactional(Retry, frozen=True, kw_only=True):
    """Somebody waits for it."""

    retry_interval: str | UnsetType = "1m"
    max_retry_interval: str | UnsetType = "1h"
    in_doubt_interval: str | UnsetType = "5m"


class Retries(Section, frozen=True, kw_only=True):
    """[retry]: a table for each class."""

    transactional: Transactional = Transactional()
    triggered: Retry = Retry()
    bulk: Retry = Retry()

    def of(self, class_: int) -> Retry:
        """0 transactional, 1 triggered, 2 bulk."""
        return (self.transactional, self.triggered, self.bulk)[class_]

    def seconds(self, class_: int, knob: str, shape: Shape | Shaping) -> float:
        """A duration of the class, or the one of `shape`."""
        value = getattr(self.of(class_), knob)
        return seconds(getattr(shape, knob) if value is UNSET else value)


def texts(retries: Retries) -> Iterator[tuple[str, Callable[[str], object], str]]:
    """Every text with a grammar: its key, what parses it or raises ValueError, the text."""
    for name in Retries.__struct_fields__:
        for knob in _DURATIONS:
            if isinstance(text := getattr(getattr(retries, name), knob), str):
                yield f"retry.{name}.{knob}", seconds, text
