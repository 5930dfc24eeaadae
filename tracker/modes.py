"""What tracking modes leave of hits (engine.md section 6). SQL: sql/queries/modes.sql.

    full         the hit, with who, when and from where
    hygiene      of an open the day, overwritten; one more in the count of its link, day and class
    aggregate    one more in the count of its link, hour and class
    none         nothing; likewise of those who were erased

Two modes decide and the stricter one wins: that in which the mail was sent, which stands in
its links, and the contact's of now. Mail sent in hygiene or aggregate carries no job in its
links; its pixel none or one that says hygiene. So the first mode needs no database, and no
later consent makes more of an old mail. Such a link is counted by hours where its stream's
mode is aggregate: elsewhere few are, and an hour might say who it was.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from mtad.base.db import Connection
from mtad.base.sqlfiles import queries
from tracker.hits import EARNING, Hit, HitClass, Kind

SQL = queries("modes")


class Mode(StrEnum):
    """How much may be kept of somebody's hits, from the most to the least."""

    FULL = "full"
    HYGIENE = "hygiene"
    AGGREGATE = "aggregate"
    NONE = "none"


_STRICTNESS = {mode: rank for rank, mode in enumerate(Mode)}


def stricter(one: Mode, other: Mode) -> Mode:
    """Which of two modes counts."""
    return max(one, other, key=_STRICTNESS.__getitem__)


class Now(msgspec.Struct, frozen=True):
    """What is known of the person behind a hit."""

    known: bool  # False: of a mail that neither ledger nor queue know
    mode: Mode | None  # None: erased, or nobody


class Reduced(msgspec.Struct, frozen=True, gc=False):
    """A hit of which less than all may be kept."""

    hit: Hit
    class_: HitClass
    mode: Mode

    @property
    def counts(self) -> bool:
        """Whether its link, hour and class may be counted."""
        return self.mode in (Mode.HYGIENE, Mode.AGGREGATE) and self.hit.kind in (Kind.OPEN, Kind.CLICK)

    @property
    def dates(self) -> bool:
        """Whether its day may be kept: a person's open."""
        return self.mode is Mode.HYGIENE and self.hit.kind is Kind.OPEN and self.class_ in EARNING


async def drop_hits(conn: Connection, hits: Sequence[Hit]) -> None:
    """Take them out of `pending`."""
    await conn.execute(SQL["drop_hits"], [hit.event_id for hit in hits])


async def keep_reduced(conn: Connection, hits: Sequence[Reduced]) -> None:
    """Count and date what may be; of the same hits again nothing comes. Locks rows of `subscription`."""
    if dated := [one.hit for one in hits if one.dates]:
        await conn.execute(SQL["date_opens"], [hit.job_id for hit in dated], [hit.at for hit in dated])
    if counted := [one for one in hits if one.counts]:
        await conn.execute(
            SQL["count_hits"],
            [one.hit.event_id for one in counted],
            [one.hit.link_id for one in counted],
            [one.hit.at for one in counted],
            [one.class_ for one in counted],
            [one.mode if one.hit.job_id else None for one in counted],
        )


async def modes_now(conn: Connection, hits: Sequence[Hit]) -> list[Now]:
    """Of each hit on somebody's mail or page: the mode of now."""
    rows = await conn.fetch(
        SQL["modes_now"],
        [hit.job_id for hit in hits],
        [hit.contact_id for hit in hits],
        [hit.program_id for hit in hits],
    )
    found = {row[0]: Now(row[1], None if row[2] is None else Mode(row[2])) for row in rows}
    return [found[number] for number in range(1, len(hits) + 1)]
