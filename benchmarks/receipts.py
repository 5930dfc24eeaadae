"""Transactional mail at a steady rate. There is no door for it yet, so it enters by the queue's own statements.

Each is the mail of a program of class 0 to a contact of a stream of its own, made by
`mtad.queue.programs.enqueue` and announced by `wake_sites` in one transaction, as a start
of a program does it. Whatever was due within 0.1 s shares a transaction,
for to make mails is no part of what is measured.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.mailing import DOMAIN, write_people
from benchmarks.place import Place
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import Problem
from mtad.queue import programs, store
from mtad.queue.intake import COMMAND_SLOT

PROGRAM = "receipt"
STREAM = "receipts"

# Between two transactions.
_TICK = 0.1

_STREAM_FILE = f"""
name = "{STREAM}"
from = "Example <receipts@{DOMAIN}>"
imprint = "Example GmbH, Street 1, 20457 Hamburg"
tracking = "none"
"""
_PROGRAM_FILE = f"""
name = "{PROGRAM}"
kind = "campaign"
stream = "{STREAM}"
[[step]]
message = "{PROGRAM}"
"""
_MESSAGE = """Hello {{ first_name }},

thank you for your order. It goes to {{ city }} today.

{{ imprint }}
{{ unsubscribe_url }}
"""

# A file cannot say yet that a program is transactional. `enqueued`: else the housekeeper
# would enqueue all of it.
_MAKE_TRANSACTIONAL = (
    "update program set class = 0, status = 'running', enqueued = now(), starts = now() where name = $1"
)
_MESSAGES = "select id, node from message where program_id = $1 and version = $2"


async def set_up(place: Place, buyers: int, domains: Sequence[str], draw: random.Random) -> None:
    """Stream and program, and so many contacts who get one mail each."""
    stream, program, people = (place.folder / name for name in ("receipts.toml", "receipt.toml", "buyers.csv"))
    stream.write_text(_STREAM_FILE, encoding="utf-8")
    program.write_text(_PROGRAM_FILE, encoding="utf-8")
    _write_message(place.folder / PROGRAM)
    write_people(people, buyers, domains, draw)
    people.write_text(people.read_text(encoding="utf-8").replace("\np", "\nbuyer"), encoding="utf-8")
    command = place.installation.command
    await command("stream", "apply", str(stream))
    await command("contacts", "import", str(people), "--stream", STREAM, "--basis", "contract", "--source", "benchmark")
    await command("program", "apply", str(program))


def _write_message(folder: Path) -> None:
    folder.mkdir()
    (folder / "subject.txt").write_text("Your order", encoding="utf-8")
    (folder / "message.txt").write_text(_MESSAGE, encoding="utf-8")


class Receipts:
    """Enqueues `rate` mails a second inside `arriving`, after `prepare`."""

    def __init__(self, pool: Pool, rate: float) -> None:
        self._pool = pool
        self._rate = rate
        self._buyers: list[programs.Candidate] = []
        self.made = 0
        self.seconds = 0.0

    async def prepare(self) -> None:
        """Know who gets what, so that nothing is read for it while it is measured."""
        self._step, self._buyers = await in_transaction(self._pool, _step_and_buyers)

    @contextlib.asynccontextmanager
    async def arriving(self) -> AsyncIterator[None]:
        """Mails are enqueued inside the block; Problem when there were not enough buyers for that."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def _run(self, stop: asyncio.Event) -> None:
        began = time.monotonic()
        while not stop.is_set():
            due = 1 + int((time.monotonic() - began) * self._rate)
            if due > len(self._buyers):
                raise Problem(f"bulk was too slow: {len(self._buyers):,} transactional mails were not enough")
            if due > self.made:
                await self._enqueue(self._buyers[self.made : due])
                self.made = due
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _TICK)
        self.seconds = time.monotonic() - began

    async def _enqueue(self, buyers: Sequence[programs.Candidate]) -> None:
        sites = sorted({buyer.site_id for buyer in buyers if buyer.site_id is not None})

        async def work(conn: Connection) -> None:
            await programs.enqueue(conn, self._step, COMMAND_SLOT, [(b.contact_id, b.site_id) for b in buyers])
            await store.wake_sites(conn, sites)

        await in_transaction(self._pool, work)


async def _step_and_buyers(conn: Connection) -> tuple[programs.Step, list[programs.Candidate]]:
    """What is sent, and everybody on the stream."""
    await conn.execute(_MAKE_TRANSACTIONAL, PROGRAM)
    program = await programs.program_by_name(conn, PROGRAM)
    message = await conn.fetchrow(_MESSAGES, program.id, program.version)
    assert message is not None
    step = programs.Step(program, message["id"], message["node"], datetime.now(UTC) + timedelta(days=1))
    buyers: list[programs.Candidate] = []
    while page := await programs.audience_page(conn, program, buyers[-1].contact_id if buyers else 0, {}, step.node):
        buyers += page
    return step, buyers
