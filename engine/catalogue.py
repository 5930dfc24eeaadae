"""Programs, streams, and what is suppressed or suspended as a whole, in memory, so that no verdict needs a query."""

from collections.abc import Iterable

import msgspec

from engine import store
from engine.facts import Facts
from engine.gate import NOTHING_SUSPENDED, TRANSACTIONAL, Suspended
from engine.policy import StreamDefinition
from engine.programs import Definition
from mtad.base.db import Pool


class Program(msgspec.Struct, frozen=True):
    """One version of a program."""

    id: int
    version: int
    name: str
    kind: str
    stream_id: int
    definition: Definition
    messages: dict[str, int]  # send node → message


class Stream(msgspec.Struct, frozen=True):
    """One version of a stream."""

    id: int
    version: int
    name: str
    definition: StreamDefinition


class Catalogue:
    """What was needed once stays: versions never change. What is suppressed or suspended is that of `epoch`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._programs: dict[tuple[int, int], Program] = {}
        self._streams: dict[tuple[int, int], Stream] = {}
        self.epoch = 0
        self.suppressed_domains: frozenset[str] = frozenset()
        self.suspended = NOTHING_SUSPENDED
        self._caps_all = False  # a stream caps the mail of all

    async def need(self, programs: Iterable[tuple[int, int]], streams: Iterable[tuple[int, int]], epoch: int) -> None:
        """Have these (id, version) at hand, and domains no older than `epoch`; KeyError for one that is not there."""
        new_programs = sorted(set(programs) - self._programs.keys())
        new_streams = sorted(set(streams) - self._streams.keys())
        if not new_programs and not new_streams and epoch <= self.epoch:
            return
        async with self._pool.acquire() as conn:
            if new_programs:
                for id_, version, name, kind, stream, definition, messages in await store.program_versions(
                    conn, new_programs
                ):
                    self._programs[id_, version] = Program(
                        id_, version, name, kind, stream, Definition.from_json(definition), messages
                    )
            if new_streams:
                for id_, version, name, definition in await store.stream_versions(conn, new_streams):
                    self._streams[id_, version] = Stream(id_, version, name, StreamDefinition.from_json(definition))
            if epoch > self.epoch:
                self.epoch, self.suppressed_domains, domains, held, self._caps_all = await store.held_domains(conn)
                self.suspended = Suspended(domains, held)
        for program in new_programs:
            self.program(*program)
        for stream in new_streams:
            self.stream(*stream)

    def program(self, program_id: int, version: int) -> Program:
        """One that `need` was asked for."""
        return self._programs[program_id, version]

    def stream(self, stream_id: int, version: int) -> Stream:
        """One that `need` was asked for."""
        return self._streams[stream_id, version]

    def counts(self, facts: Facts) -> bool:
        """Whether sending this mail counts for caps: those of its stream, or those of any over all streams."""
        if facts.class_ == TRANSACTIONAL:
            return False
        slots = self.stream(facts.stream_id, facts.stream_version).definition.policy.slots
        return self._caps_all or bool(slots.caps or slots.caps_all)
