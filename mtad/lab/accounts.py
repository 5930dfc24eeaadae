"""Do the sink's books and the ledger's agree? Pure.

Every copy that arrived names its job in the envelope's sender, so both sides can be
compared job by job:

    copies = delivered + second copies + copies of mails whose delivery never became known

and each of the last two must have been marked in doubt.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec


class Ended(msgspec.Struct, frozen=True):
    """A ledger row that was delivered or once in doubt."""

    job_id: int
    outcome: str
    doubts: int


class Books(msgspec.Struct, frozen=True):
    """What the comparison found; `disagreements` is empty when all is well."""

    copies: int
    delivered: int
    duplicates: int  # copies beyond the first, all marked in doubt
    unknown: int  # arrived, marked in doubt, and never known as delivered
    disagreements: list[str]


def compare(copies: Counter[int], ledger: Iterable[Ended]) -> Books:
    """Compare copies by job with the ledger."""
    rows = {row.job_id: row for row in ledger}
    delivered = {job for job, row in rows.items() if row.outcome == "delivered"}
    missing = sorted(delivered - copies.keys())
    strangers = sorted(job for job in copies if job not in rows)
    unmarked, unknown, duplicates = [], 0, 0
    for job, count in copies.items():
        row = rows.get(job)
        if row is None:
            continue
        duplicates += count - 1
        if row.outcome != "delivered":
            unknown += 1
        # Each doubt explains one copy that nobody answered for.
        expected = row.doubts + (row.outcome == "delivered")
        if count > expected:
            unmarked.append(job)
    return Books(
        copies=copies.total(),
        delivered=len(delivered),
        duplicates=duplicates,
        unknown=unknown,
        disagreements=[
            f"{len(jobs):,} {what}: job {', '.join(map(str, jobs[:5]))}"
            for jobs, what in (
                (missing, "delivered by the ledger, but no copy arrived"),
                (strangers, "arrived, but the ledger knows no delivery and no doubt"),
                (sorted(unmarked), "more copies than the marks of doubt explain"),
            )
            if jobs
        ],
    )
