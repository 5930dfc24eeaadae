"""Is every recipient accounted for? Two sums over one program, taken at one moment:

    enrolled = delivered + bounced + expired + skipped by reason + in doubt + pending
    entered  = running + ended by reason

They are counted from the rows themselves, never from counters: whatever was
enrolled has exactly one of a ledger row and a queued job, and nothing else has
either. Where that does not hold there is a hole, and the ids in it are named.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from mtad.base.db import Connection, Row
from mtad.base.sqlfiles import queries
from mtad.ops.answers.counts import Pending, by_reason
from mtad.ops.answers.programs import program_by_name

SQL = queries("answers")


class Fault(StrEnum):
    """What can be wrong with a row; the first five name jobs, the last two name entries."""

    LOST = "lost"
    BOTH = "both"
    SHARED = "shared"
    LEDGER_ONLY = "ledger_only"
    QUEUED_ONLY = "queued_only"
    STRANDED = "stranded"
    UNEXPLAINED = "unexplained"


SENTENCES = {
    Fault.LOST: "enrolled, but neither queued nor in the ledger: job",
    Fault.BOTH: "queued and in the ledger as well: job",
    Fault.SHARED: "enrolled more than once under one id: job",
    Fault.LEDGER_ONLY: "in the ledger, but never enrolled: job",
    Fault.QUEUED_ONLY: "queued, but never enrolled: job",
    Fault.STRANDED: "running, but neither due nor with a queued job: entry",
    Fault.UNEXPLAINED: "ended without a reason: entry",
}


class Hole(msgspec.Struct, frozen=True):
    """`count` rows with the same fault; `ids` are the first 20 of them."""

    fault: Fault
    count: int
    ids: list[int]

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.ids) else ""
        return f"{self.count:,} {SENTENCES[self.fault]} {', '.join(map(str, self.ids))}{more}"


class Audit(msgspec.Struct, frozen=True):
    """Both sums of one program at the moment `at`. `skipped` and `ended` are by reason.

    `in_doubt` was given up; what is in doubt and still queued is in `pending`.
    """

    program: str
    at: datetime
    adds_up: bool
    enrolled: int
    delivered: int
    bounced: int
    expired: int
    skipped: dict[str, int]
    in_doubt: int
    pending: Pending
    entered: int
    running: int
    ended: dict[str, int]
    holes: list[Hole]

    @property
    def accounted(self) -> int:
        """The right side of the first sum."""
        ended = self.delivered + self.bounced + self.expired + self.in_doubt
        return ended + sum(self.skipped.values()) + self.pending.total


async def audit(conn: Connection, program_name: str) -> Audit:
    """Count one program. `conn` must not be in a transaction. InputError: no such program."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        program = await program_by_name(conn, program_name)
        jobs = await conn.fetch(SQL["audit_jobs"], program.id)
        entries = await conn.fetch(SQL["audit_entries"], program.id)
    job_count = {fate: n for fate, _, n, _ in jobs}
    entry_count = {fate: n for fate, n, _ in entries}
    result = Audit(
        program=program.name,
        at=program.at,
        adds_up=False,
        enrolled=sum(enrolled for _, enrolled, _, _ in jobs),
        delivered=job_count.get("delivered", 0),
        bounced=job_count.get("bounced", 0),
        expired=job_count.get("expired", 0),
        skipped=by_reason(job_count, "skipped"),
        in_doubt=job_count.get("in_doubt", 0),
        pending=Pending(*(job_count.get(f"pending:{kind}", 0) for kind in Pending.__struct_fields__)),
        entered=sum(entry_count.values()),
        running=entry_count.get("running", 0),
        ended=by_reason(entry_count, "ended"),
        holes=_holes([*jobs, *entries]),
    )
    entries_add_up = result.entered == result.running + sum(result.ended.values())
    adds_up = not result.holes and result.enrolled == result.accounted and entries_add_up
    return msgspec.structs.replace(result, adds_up=adds_up)


def _holes(rows: Sequence[Row]) -> list[Hole]:
    """The rows whose fate is a fault; a fate is the first column, its count and ids are the last two."""
    return [
        Hole(Fault(row[0].removeprefix("hole:")), row[-2], list(row[-1])) for row in rows if row[0].startswith("hole:")
    ]
