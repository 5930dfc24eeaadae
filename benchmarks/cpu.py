"""CPU time of pure work: rounds of all kinds in turn, so that load on the machine falls on each alike."""

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from statistics import median

import msgspec


class Cost(msgspec.Struct, frozen=True):
    """µs of one core for one of it. Of all rounds the median, and the least: what other load did not disturb."""

    median: float
    least: float


def exhaust(results: Iterable[object]) -> None:
    """Make all of them and keep none: memory that grows and shrinks would be measured too."""
    deque(results, maxlen=0)


async def costs(works: Mapping[str, Callable[[], object]], count: int, rounds: int) -> dict[str, Cost]:
    """What one of `count` costs, by name; each call does all of them."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()  # what is made once
    gc.freeze()
    for _ in range(rounds):
        for name, work in works.items():
            began = time.process_time()
            work()
            taken[name].append((time.process_time() - began) / count * 1e6)
            await asyncio.sleep(0)  # the limit may have come
    return {name: Cost(round(median(each), 2), round(min(each), 2)) for name, each in taken.items()}


def rest(whole: Cost, parts: Mapping[str, Cost]) -> Cost:
    """What the parts, measured by themselves, do not explain."""
    return Cost(
        round(whole.median - sum(part.median for part in parts.values()), 2),
        round(whole.least - sum(part.least for part in parts.values()), 2),
    )
