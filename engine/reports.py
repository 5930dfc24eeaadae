"""What came back to us by mail, as another system has read it: bounced after all, complained, is away.

A bounce takes back that the mail arrived and suppresses the address, a complaint suppresses
advertising, and who is away is given the time until then: a window stays open, and a
reactivation stands still.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from engine import store
from engine.replay import Fact
from engine.rules import REPORTS
from engine.score import Key
from engine.states import USUAL_ABSENCE, Event, Kind
from engine.suppression import GONE_FOR, Suppress, suppress
from engine.tell import tell
from mtad.base.db import Connection
from mtad.base.sqlfiles import queries

__all__ = ["REPORTS", "Occurrence", "report"]

SQL = queries("reports")


class Occurrence(Protocol):
    """Something without a mail, or a report, as whoever wrote it down knows it.

    Property `until` of `out_of_office`: a time, with its zone.
    """

    @property
    def event_id(self) -> UUID: ...
    @property
    def contact_id(self) -> int: ...
    @property
    def event(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def properties(self) -> Mapping[str, Any]: ...
    @property
    def job_id(self) -> int | None: ...


async def report(conn: Connection, reports: Sequence[Occurrence]) -> None:
    """Draw the consequences of reports, whose events are written; the caller holds the gates of all these contacts.

    A bounce without a job is one of the last mail that the contact got in the five days before.
    """
    by_kind = {kind: [one for one in reports if one.event == kind] for kind in sorted(REPORTS)}
    await _away(conn, by_kind["out_of_office"])
    await _bounced(conn, by_kind["bounced"])
    named = [*by_kind["bounced"], *by_kind["complained"]]
    rows = await conn.fetch(SQL["keys_of_contacts"], [one.contact_id for one in named])
    keys = {row[0]: row[1] for row in rows}
    await suppress(conn, [_suppression(one, keys[one.contact_id]) for one in named if one.contact_id in keys])


async def _away(conn: Connection, reports: Sequence[Occurrence]) -> None:
    if not reports:
        return
    facts: dict[Key, list[Fact]] = {}
    for key in await store.streams_of(conn, [one.contact_id for one in reports]):
        facts[key] = [
            Fact(
                id=f"told {one.event_id}",
                event=Event(Kind.OUT_OF_OFFICE, one.at, "out_of_office", until=_back(one)),
            )
            for one in reports
            if one.contact_id == key[1]
        ]
    await tell(conn, facts)
    backs: dict[int, datetime] = {}
    for one in reports:
        back = _back(one) or one.at + USUAL_ABSENCE
        backs[one.contact_id] = max(back, backs.get(one.contact_id, back))
    await conn.execute(SQL["hold_ways"], list(backs), list(backs.values()))


def _back(report: Occurrence) -> datetime | None:
    until = report.properties.get("until")
    return msgspec.convert(until, datetime) if until else None


async def _bounced(conn: Connection, reports: Sequence[Occurrence]) -> None:
    if not reports:
        return
    rows = await conn.fetch(
        SQL["bounce_late"],
        [one.contact_id for one in reports],
        [one.job_id for one in reports],
        [one.at for one in reports],
    )
    await tell(conn, {(row[0], row[1]): () for row in rows}, again=True)


def _suppression(report: Occurrence, key: str) -> Suppress:
    source = f"reported, event {report.event_id}"
    if report.event == "bounced":
        return Suppress(key, "all", "hard_bounce", source, report.at + GONE_FOR)
    return Suppress(key, "marketing", "complained", source)
