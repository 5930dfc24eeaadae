"""What came of a program: people's answers, and apart from them what machines did."""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from mtad.base.db import Connection
from mtad.base.ids import uuid7
from mtad.base.sqlfiles import queries
from mtad.ops.answers.counts import Pending
from mtad.ops.answers.programs import program_by_name

SQL = queries("answers")

HUMAN = ("human", "proxy")
# Clocks of trackers and database differ by less.
CLOCK_SLACK = timedelta(days=1)


class MailReport(msgspec.Struct, frozen=True):
    """One mail of the program: to how many, and how many of those people opened and clicked."""

    message: str
    enrolled: int
    delivered: int
    opened: int
    clicked: int


class LinkReport(msgspec.Struct, frozen=True):
    """One link: clicks of people, and of how many people we know who."""

    message: str
    link: int
    url: str
    clicks: int
    people: int


class Report(msgspec.Struct, frozen=True):
    """One program at the moment `at`.

    `opened` and `clicked` are mails of whom we may know; `opens` and `clicks` every hit that a
    person made, also of those who may only be counted (modes hygiene and aggregate);
    `machine` are the hits of the other classes, by class and kind; `unjudged` wait to
    be told apart.
    """

    program: str
    kind: str
    stream: str
    status: str
    at: datetime
    enrolled: int
    delivered: int
    opened: int
    clicked: int
    opens: int
    clicks: int
    engaged: int
    unsubscribed: int
    complained: int
    bounced: dict[str, int]
    skipped: dict[str, int]
    expired: int
    in_doubt: int
    pending: Pending
    mails: list[MailReport]
    links: list[LinkReport]
    machine: dict[str, dict[str, int]]
    unjudged: int


def oldest_event(created: datetime) -> UUID:
    """An id below those of every event that can belong to a program of that age."""
    return uuid7(int((created - CLOCK_SLACK).timestamp() * 1000), bytes(10))


async def report(conn: Connection, name: str) -> Report:
    """Count what came of the program up to now. `conn` must not be in a transaction."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        program = await program_by_name(conn, name)
        since = oldest_event(program.created)
        mails = [MailReport(*row) for row in await conn.fetch(SQL["mails_of_program"], program.id)]
        endings = await conn.fetch(SQL["endings_of_program"], program.id)
        links = [LinkReport(*row) for row in await conn.fetch(SQL["clicks_of_program"], program.id, since)]
        hits = await conn.fetch(SQL["hits_of_program"], program.id, since)
        engaged = await conn.fetchval(SQL["engaged_by_program"], program.id, program.stream_id)
        refusals = await conn.fetch(SQL["refusals_of_program"], program.id, since)
        (queue,) = await conn.fetch(SQL["queue_of_program"], program.id)
    refused = {row[0]: row[1] for row in refusals}
    machine: dict[str, dict[str, int]] = {}
    for kind, class_, n in hits:
        if class_ is not None and class_ not in HUMAN:
            machine.setdefault(class_, {})[kind] = n
    return Report(
        program=program.name,
        kind=program.kind,
        stream=program.stream,
        status=program.status,
        at=program.at,
        enrolled=sum(mail.enrolled for mail in mails),
        delivered=sum(mail.delivered for mail in mails),
        opened=sum(mail.opened for mail in mails),
        clicked=sum(mail.clicked for mail in mails),
        opens=sum(n for kind, class_, n in hits if kind == "open" and class_ in HUMAN),
        clicks=sum(n for kind, class_, n in hits if kind == "click" and class_ in HUMAN),
        engaged=engaged,
        unsubscribed=refused.get("unsubscribe", 0),
        complained=refused.get("complaint", 0),
        bounced={reason: n for outcome, reason, n in endings if outcome == "bounced"},
        skipped={reason: n for outcome, reason, n in endings if outcome == "skipped"},
        expired=sum(n for outcome, _, n in endings if outcome == "expired"),
        in_doubt=sum(n for outcome, _, n in endings if outcome == "in_doubt"),
        pending=Pending(*queue[:4]),
        mails=mails,
        links=links,
        machine=machine,
        unjudged=sum(n for _, class_, n in hits if class_ is None),
    )
