"""The sources of this worker: which pools they are in, whose turn it is, and which of them are well.

An address that cannot be bound is no fault of a server or a mail: its source is left
alone for a while in this process, and the others of its pools send. A host that lacks
an address of a configuration that several hosts share thus uses those that it has.
"""

import logging
from collections.abc import Iterable

from prometheus_client import Gauge

from engine.service import Stream
from mtad.base.clock import Clock
from mtad.base.config import Config
from mtad.base.source import DEFAULT, sources_of, weights_of
from mtad.source.rotation import Rotation
from mtad.wire.egress import Egress

log = logging.getLogger("mtad.sources")

# An address that could not be bound is tried again after so many seconds.
OUT_FOR = 60.0

OUT = Gauge("mtad_source_out", "1 while the address of the source cannot be bound here", ["source"])


class Sources:
    """What is configured, and what this process has found out about it."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._clock = clock
        self._egress = {source.name: Egress.of(source) for source in sources_of(config.source)}
        self.pools = {name: Rotation(weights) for name, weights in weights_of(config.source, config.pool).items()}
        self._members = {name: frozenset(weights) for name, weights in weights_of(config.source, config.pool).items()}
        self._seen: set[str] = set()  # pools
        self._asked: frozenset[str] = frozenset(self._egress)
        self._out: dict[str, float] = {}  # until when, monotonic
        for name in self.names:
            OUT.labels(source=name).set(0)

    @property
    def names(self) -> list[str]:
        """Of all sources."""
        return list(self._egress)

    def egress(self, name: str) -> Egress:
        """What a session of this source leaves by."""
        return self._egress[name]

    def members(self, pool: str) -> Iterable[str]:
        """The sources of a pool."""
        return self._members[pool]

    def pool_of(self, stream: Stream) -> str:
        """The pool of a stream's mail that may go."""
        if len(self.pools) == 1:
            return DEFAULT
        pool = stream.definition.pool
        if pool not in self._seen:
            self._seen.add(pool)
            self._asked = frozenset().union(*(self._members.get(name, ()) for name in self._seen))
        return pool

    def is_asked(self, name: str) -> bool:
        """Whether a source is of a pool that there was mail for; until there was any, all are."""
        return name in self._asked

    def is_well(self, name: str) -> bool:
        """Whether nothing is known against its address."""
        if not self._out:
            return True
        if self._out.get(name, 0.0) > self._clock.monotonic():
            return False
        if self._out.pop(name, None) is not None:
            OUT.labels(source=name).set(0)
        return True

    @property
    def none_is_well(self) -> bool:
        """Whether nothing can be sent at all."""
        return bool(self._out) and not any(self.is_well(name) for name in self._egress)

    def take_out(self, name: str, why: str) -> None:
        """Its address could not be bound: leave it alone for a while."""
        if self.is_well(name):
            log.warning("source taken out", extra={"source": name, "why": why, "seconds": OUT_FOR})
        self._out[name] = self._clock.monotonic() + OUT_FOR
        OUT.labels(source=name).set(1)
