"""A call that blocks the loop of a worker fails the test in which it does.

One loop does everything, so what waits for a disk holds up every session and every hit.
What runs in a thread may block, and so may a test itself.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import format_stack
from typing import ClassVar
from unittest.mock import patch

from blockbuster import BlockBuster, BlockBusterFunction

WORKER = [
    "engine", "tracker", "mtad.base.batcher", "mtad.compose", "mtad.consent", "mtad.dkim", "mtad.ops.disk",
    "mtad.ops.exporter", "mtad.ops.housekeeper", "mtad.ops.lag", "mtad.ops.moves", "mtad.ops.outcome_log",
    "mtad.ops.probe", "mtad.ops.retention", "mtad.ops.sites", "mtad.ops.warmup", "mtad.ops.watch",
    "mtad.outcome", "mtad.pipeline", "mtad.queue", "mtad.shape", "mtad.smtp", "mtad.source", "mtad.sweeps", "mtad.wire",
]  # fmt: skip
# What reads files for a command: nothing else runs in those loops.
COMMANDS = [
    "engine.programs", "mtad.compose.apply", "mtad.compose.folder", "mtad.compose.preview", "mtad.consent.forms",
]  # fmt: skip

# Whether a lock is free depends on the scheduler, and so would the outcome of a test. To look whether there is a
# file takes a microsecond; asyncpg does so for each connection.
UNWATCHED = ("threading.", "os.stat", "os.path.", "os.getcwd")

# What the library overlooks; the journal is written and synced by these.
MORE = ("builtins.open", "io.open", "os.open", "os.fsync", "os.fdatasync", "os.ftruncate", "fcntl.flock")

ALLOWED = (
    ("engine/zones.py", "_clock"),  # the file of a zone, once
    ("logging/__init__.py", "emit"),  # a line is a microsecond
    ("mtad/base/automation.py", "shipped_rules"),  # once, when a worker starts
    ("mtad/base/shape.py", "shipped_providers"),  # likewise
    ("mtad/dkim/keys.py", "read_key"),  # likewise
    ("mtad/dkim/multibuffer.py", "_loaded"),  # likewise
    ("mtad/audience/persons.py", "read_suppression_key"),  # a line, once an hour
    ("prometheus_client/process_collector.py", "collect"),  # /proc is in memory
    ("tempfile.py", "_rmtree"),  # by chance: what clears a test's folder away when it is forgotten
    ("weakref.py", "__call__"),  # likewise: a finaliser runs wherever memory is collected
    ("mtad/wire/hosts.py", "is_ours"),  # a datagram socket's connect sends nothing and waits for nothing
)


def _asks_only(_: object, operation: int) -> bool:
    """A lock that is asked for and not waited for."""
    return bool(operation & (fcntl.LOCK_NB | fcntl.LOCK_UN))


class Blocked(Exception):
    """Kept in `seen` as well: a service may say in its log that something failed, and go on."""

    seen: ClassVar[list[str]] = []

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.seen.append(f"{name}\n{''.join(format_stack(limit=12)[:-2])}")


@contextmanager
def watching() -> Iterator[None]:
    """Inside, Blocked is raised where the loop of a worker would wait."""
    watch = BlockBuster(WORKER, excluded_modules=COMMANDS)
    watch.functions = {name: one for name, one in watch.functions.items() if not name.startswith(UNWATCHED)}
    for name in MORE:
        watch.functions[name] = BlockBusterFunction(None, name, scanned_modules=WORKER, excluded_modules=COMMANDS)
    watch.functions["fcntl.flock"].can_block_predicate = _asks_only
    for one in watch.functions.values():
        for place in ALLOWED:
            one.can_block_in(*place)
    with patch("blockbuster.blockbuster.BlockingError", Blocked):
        watch.activate()
        try:
            yield
        finally:
            watch.deactivate()
