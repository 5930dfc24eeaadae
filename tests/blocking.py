"""A call that blocks the loop of a worker fails the test in which it does.

One loop does everything, so what waits for a disk holds up every session and every hit.
What runs in a thread may block, and so may a test itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import format_stack
from typing import ClassVar
from unittest.mock import patch

from blockbuster import BlockBuster, BlockBusterFunction

WORKER = [
    "engine", "tracker", "mtad.base.batcher", "mtad.consent", "mtad.ops.housekeeper", "mtad.outcome", "mtad.pipeline",
    "mtad.queue", "mtad.shape", "mtad.sweeps", "mtad.wire",
]  # fmt: skip
COMMANDS = ["engine.programs", "mtad.consent.forms"]  # what reads files for a command, whose loop may block

# Whether a lock is free depends on the scheduler, and so would the outcome of a test. To look whether there is a
# file takes a microsecond; asyncpg does so for each connection.
UNWATCHED = ("threading.", "os.stat", "os.path.", "os.getcwd")

ALLOWED = (
    ("engine/zones.py", "_clock"),  # the file of a zone, once
    ("logging/__init__.py", "emit"),  # a line is a microsecond
    ("mtad/base/automation.py", "shipped_rules"),  # once, when a worker starts
    ("mtad/base/shape.py", "shipped_providers"),  # likewise
    ("mtad/dkim/multibuffer.py", "_loaded"),  # likewise
    ("mtad/wire/hosts.py", "is_ours"),  # a datagram socket's connect sends nothing and waits for nothing
)


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
    for name in ("builtins.open", "io.open", "os.fsync"):
        watch.functions[name] = BlockBusterFunction(None, name, scanned_modules=WORKER, excluded_modules=COMMANDS)
    for one in watch.functions.values():
        for place in ALLOWED:
            one.can_block_in(*place)
    with patch("blockbuster.blockbuster.BlockingError", Blocked):
        watch.activate()
        try:
            yield
        finally:
            watch.deactivate()
