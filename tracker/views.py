"""Page views: kept when the click that led there is judged, for the same hands made it.

A sandbox that follows a link in a browser runs the scripts of the page, ours too, and looks like a
person to them. What it did with the mail betrays it, seconds later. SQL: sql/queries/intake.sql.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.ids import uuid7
from mtad.base.sqlfiles import queries
from tracker.hits import Hit, HitClass, Judgement, Kind, Method
from tracker.judging import judge_view
from tracker.networks import Networks
from tracker.occurrences import Occurrence, Offer

SQL = queries("intake")

# How far from the second in a visitor's token its click is looked for, as clicks_behind does.
NEAR = timedelta(seconds=5)


class JudgedView(msgspec.Struct, frozen=True):
    """A page view of somebody who may be measured."""

    view: Hit
    contact_id: int
    click_id: UUID | None  # that led there; None: nobody knows it
    judgement: Judgement


async def redeem(pool: Pool, token: str, job_id: int, event_id: UUID) -> bool:
    """Use up what a click handed over: True once, for somebody who may be measured whole."""

    async def work(conn: Connection) -> bool:
        if not await conn.fetch(SQL["visited_mails"], [job_id]):
            return False
        return bool(await conn.fetch(SQL["take_keys"], "visit", [token], [event_id]))

    return await in_transaction(pool, work)


async def queue_views(conn: Connection, views: Sequence[Hit]) -> int:
    """Have page views from the journal wait for their clicks; how many do not wait there already."""
    return int(
        await conn.fetchval(
            SQL["add_visits"],
            [view.event_id for view in views],
            [view.job_id for view in views],
            [datetime.fromtimestamp(view.link_id, UTC) for view in views],
            [view.at for view in views],
            [view.how for view in views],
            [view.agent for view in views],
            [view.network for view in views],
        )
    )


async def judge_views(conn: Connection, networks: Networks, offer: Offer) -> list[JudgedView]:
    """Judge up to 1,000 of those that wait no more: of those who may be measured whole now.

    Written once each, and offered if it was a person, in this transaction.
    """
    rows = await conn.fetch(SQL["take_visits"])
    if not rows:
        return []
    views = {row[0]: Hit(row[0], row[3], Kind.PAGE, Method.POST, row[5], row[6], row[1], how=row[4]) for row in rows}
    owners = {row[0]: row[1] for row in await conn.fetch(SQL["visited_mails"], sorted({row[1] for row in rows}))}
    whole = [(views[row[0]], owners[row[1]], row[2]) for row in rows if row[1] in owners]
    clicks = await _clicks(conn, whole) if whole else []
    judged = [
        JudgedView(view, contact, click_id, judge_view(view, class_, networks))
        for (view, contact, _), (click_id, class_) in zip(whole, clicks, strict=True)
    ]
    fresh = await _write(conn, judged) if judged else set()
    people = [
        Occurrence(
            event_id=one.view.event_id,
            contact_id=one.contact_id,
            event="page",
            at=one.view.at,
            properties={"url": one.view.how},
        )
        for one in judged
        if one.judgement.class_ is HitClass.HUMAN and one.view.event_id in fresh
    ]
    if people:
        await offer(conn, people)
    return judged


async def follow(conn: Connection, clicks: Collection[UUID]) -> list[tuple[int, int]]:
    """Some clicks are of another class now: so are the views that they led to. Gates are locked.

    (stream, contact) of all that may have counted them, for a page counts on every stream of its visitor.
    """
    return [(row[0], row[1]) for row in await conn.fetch(SQL["views_follow"], sorted(clicks))]


async def _clicks(
    conn: Connection, whole: Sequence[tuple[Hit, int, datetime]]
) -> list[tuple[UUID | None, HitClass | None]]:
    times = [clicked for _, _, clicked in whole]
    rows = await conn.fetch(
        SQL["clicks_behind"],
        [contact for _, contact, _ in whole],
        [view.job_id for view, _, _ in whole],
        times,
        uuid7(int((min(times) - NEAR).timestamp() * 1000), bytes(10)),
        uuid7(int((max(times) + NEAR).timestamp() * 1000), b"\xff" * 10),
    )
    return [(row[0], HitClass(row[1]) if row[1] else None) for row in rows]


async def _write(conn: Connection, judged: Sequence[JudgedView]) -> set[UUID]:
    rows = await conn.fetch(
        SQL["add_occurrences"],
        [one.view.event_id for one in judged],
        ["page"] * len(judged),
        [one.view.at for one in judged],
        [one.contact_id for one in judged],
        [
            {
                "url": one.view.how,
                "agent": one.view.agent,
                "network": one.view.network,
                "class": one.judgement.class_,
                "job": one.view.job_id,
            }
            | ({"why": one.judgement.reasons} if one.judgement.reasons else {})
            | ({"click": str(one.click_id)} if one.click_id else {})
            for one in judged
        ],
    )
    return {row[0] for row in rows}
