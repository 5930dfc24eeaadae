"""Who uses the cores: CPU seconds of every process that takes part, and of all others on the machine."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks import gauges
from mtad.base.db import Pool

_TICK = 1 / os.sysconf("SC_CLK_TCK")

# Of the first line of /proc/stat: user, nice, system, irq and softirq, without idle, iowait and steal.
_BUSY = (1, 2, 3, 6, 7)

# Workers call their connections `mtad SLOT`; other backends serve us, or nobody.
_BACKENDS = "select pid from pg_stat_activity where application_name ~ '^mtad [0-9]+$'"


class Budget(msgspec.Struct, frozen=True):
    """CPU seconds by who used them, in so many seconds of a clock. `others` are no part of the benchmark."""

    seconds: float
    cpu: Mapping[str, float]

    def cores(self) -> dict[str, float]:
        """The mean number of cores, by who."""
        return {who: round(used / self.seconds, 3) for who, used in self.cpu.items()}


class Accounts:
    """CPU of the workers, their backends, the rest of Postgres, the sink, helpers and this process.

    `sink` is empty where it runs in this process. `helpers` by name; they may come and go between two looks.
    """

    def __init__(self, pool: Pool, postmaster: int, sink: Sequence[int]) -> None:
        self._pool = pool
        self._postmaster = postmaster
        self._sink = sink
        self.helpers: dict[str, int] = {}

    async def look(self, workers: Sequence[int]) -> Budget:
        """All that was used so far; take one look from another for what was used between them."""
        backends = [row["pid"] for row in await self._pool.fetch(_BACKENDS)]
        cpu = {
            "workers": sum(map(gauges.tree_cpu, workers)),
            "postgres for workers": sum(map(gauges.tree_cpu, backends)),
            "postgres, rest": gauges.tree_cpu(self._postmaster),
            "sink": sum(map(gauges.tree_cpu, self._sink)),
            **{who: gauges.tree_cpu(pid) for who, pid in self.helpers.items()},
            "benchmark": time.process_time(),
        }
        cpu["postgres, rest"] -= cpu["postgres for workers"]
        cpu["others"] = _busy() - sum(cpu.values())
        return Budget(time.monotonic(), cpu)


def _busy() -> float:
    """CPU seconds of the whole machine."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return sum(int(fields[place]) for place in _BUSY) * _TICK


def between(first: Budget, last: Budget) -> Budget:
    """What was used from the first look to the last."""
    return Budget(last.seconds - first.seconds, {who: used - first.cpu.get(who, 0.0) for who, used in last.cpu.items()})
