"""The tracker's SQL: one typed function a query of sql/queries/tracker.sql."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from mtad.base.db import Connection, Pool, Row, row_values
from mtad.base.sqlfiles import queries
from tracker.hits import BURST_SPAN, Hit, Judgement, Kind, Mail, Method, certain
from tracker.links import Link

SQL = queries("tracker")


class RipeJob(msgspec.Struct, frozen=True):
    """A mail whose hits can be judged, with what is known of it."""

    job_id: int
    oldest: datetime
    newest: datetime  # of the hits that can be judged; later ones wait
    contact_id: int | None  # None: erased since
    program_id: int | None
    links: int
    dot_at: datetime | None
    accepted_at: datetime | None
    doubts: int

    @property
    def mail(self) -> Mail:
        return Mail(self.links, self.dot_at, self.accepted_at, self.doubts)


async def ingest(conn: Connection, hits: Sequence[Hit]) -> int:
    """Write hits down and queue those that may earn points; how many were new.

    What the request alone decides is decided here, so that robots never wait for
    a settle window.
    """
    judged = [certain(hit) if hit.kind in (Kind.OPEN, Kind.CLICK) else None for hit in hits]
    found = await conn.fetchval(
        SQL["ingest"],
        [hit.event_id for hit in hits],
        [hit.kind.value for hit in hits],
        [hit.at for hit in hits],
        [hit.job_id for hit in hits],
        [hit.link_id for hit in hits],
        [hit.contact_id for hit in hits],
        [hit.program_id for hit in hits],
        [hit.method.value for hit in hits],
        [hit.agent for hit in hits],
        [hit.network for hit in hits],
        [one.class_.value if one else None for one in judged],
        [",".join(one.reasons) if one else "" for one in judged],
    )
    return int(found)


async def known_events(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the ids that are written down already."""
    return {row[0] for row in await conn.fetch(SQL["known_events"], ids)}


async def set_ingested_until(conn: Connection, worker: int, at: datetime) -> None:
    """Every hit that this worker received before `at` is in `event`; never moves back."""
    await conn.execute(SQL["set_ingested_until"], worker, at)


async def ripe_jobs(conn: Connection, after: int) -> list[RipeJob]:
    """Up to 200 jobs with ids above `after` whose hits can be judged, in order of id."""
    return [RipeJob(*row_values(row)) for row in await conn.fetch(SQL["ripe_jobs"], after)]


async def lock_pending(conn: Connection, jobs: Sequence[RipeJob]) -> list[Hit]:
    """The unjudged hits of the jobs up to the newest of each, locked until the transaction ends."""
    rows = await conn.fetch(SQL["lock_pending"], [job.job_id for job in jobs], [job.newest for job in jobs])
    return [_hit(row) for row in rows]


async def evidence(conn: Connection, jobs: Sequence[RipeJob]) -> list[tuple[int, Hit]]:
    """Whatever was asked of each job's mail within reach of a burst of its unjudged hits, with the job's id."""
    rows = await conn.fetch(
        SQL["evidence"],
        [job.job_id for job in jobs],
        [job.contact_id for job in jobs],
        [job.program_id for job in jobs],
        [job.oldest - BURST_SPAN for job in jobs],
        [job.newest + BURST_SPAN for job in jobs],
    )
    return [(hit.job_id, hit) for hit in map(_hit, rows)]


async def write_verdicts(conn: Connection, verdicts: Sequence[tuple[UUID, Judgement]]) -> None:
    """Class and reasons of events; of their rows in pending only those that may earn points stay."""
    await conn.execute(
        SQL["write_verdicts"],
        [event_id for event_id, _ in verdicts],
        [judged.class_.value for _, judged in verdicts],
        [",".join(judged.reasons) for _, judged in verdicts],
    )


async def links(pool: Pool, after: int, missing: Sequence[int], most: int) -> list[tuple[int, Link]]:
    """The next `most` links with ids above `after`, and the `missing` ones, in order of id."""
    rows = await pool.fetch(SQL["links"], after, missing, most)
    return [(row[0], Link(*row_values(row)[1:])) for row in rows]


def _hit(row: Row) -> Hit:
    event_id, at, kind, method, agent, network, job_id, link_id = row_values(row)
    return Hit(event_id, at, Kind(kind), Method(method), agent, network, job_id, link_id)
