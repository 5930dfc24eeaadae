"""Transactional mail goes before others, and a session is kept for it."""

import asyncio
from typing import Any

import pytest

from mtad.base.config import Shape
from mtad.pipeline import claimer
from mtad.shape.feedback import INITIAL
from tests.pipeline.office import Office, is_so, open_office
from tests.queue.world import until_blocked

TRANSACTIONAL: Any = {"class": 0, "prio": 0}


async def test_a_transactional_mail_overtakes_a_campaign_that_was_claimed_before(office: Office) -> None:
    bulk = [f"p{n}@reader.test" for n in range(200)]
    for person in bulk:
        await office.world.job(person)
    office.post.accepts.clear()

    async with open_office(office):
        await office.until_count("select (count(*) >= 64)::int from job where worker is not null", 1)
        await office.world.job("urgent@reader.test", **TRANSACTIONAL)
        sites = office.pipeline._sites
        await office.until(lambda: is_so(any(site.keeps_until for site in sites.values())))  # it is in the backlog
        office.post.stops_after = 1  # those whose mail is on the wire go on, and then no other of bulk
        office.post.accepts.set()
        async with asyncio.timeout(60):
            await office.until(lambda: is_so("urgent@reader.test" in office.post.sent))
        office.post.accepts.set()
        await office.until_delivered(201)

    assert office.post.sent.index("urgent@reader.test") <= Shape().connection_limit


async def test_where_transactional_mail_was_seen_bulk_leaves_a_session_to_it(office: Office) -> None:
    await office.world.job("urgent1@reader.test", **TRANSACTIONAL)

    async with open_office(office):
        await office.until_delivered(1)
        office.post.accepts.clear()
        for n in range(100):
            await office.world.job(f"p{n}@reader.test")
        await office.until_count("select count(*) from job where begun is not null", INITIAL)  # of one more
        await office.world.job("urgent2@reader.test", **TRANSACTIONAL)
        await office.until_delivered(2)
        office.post.accepts.set()
        await office.until_delivered(102)

    assert office.post.sent[:2] == ["urgent1@reader.test", "urgent2@reader.test"]


async def test_a_begin_of_bulk_that_waits_for_the_rows_of_its_last_mails_holds_up_no_transactional_mail(
    office: Office,
) -> None:
    await office.world.job("urgent1@reader.test", **TRANSACTIONAL)

    async with open_office(office):
        await office.until_delivered(1)  # from now on a session is kept
        office.post.accepts.clear()
        for n in range(100):
            await office.world.job(f"p{n}@reader.test")
        await office.until_count("select count(*) from job where begun is not null", INITIAL)
        async with office.world.pool.acquire() as other, other.transaction():
            await other.execute("select from job where begun is not null for update")
            office.post.accepts.set()
            await until_blocked(office.world.pool)
            await office.world.job("urgent2@reader.test", **TRANSACTIONAL)
            await office.until(lambda: is_so("urgent2@reader.test" in office.post.sent))
        await office.until_delivered(102)

    assert len(office.post.sent) == 102  # and nothing twice


async def test_a_worker_that_holds_enough_mail_claims_transactional_mail_all_the_same(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimer, "MOST_WAITING", 1)
    for n in range(600):
        await office.world.job(f"p{n}@reader.test")
    office.post.accepts.clear()

    async with open_office(office):
        await office.until_count("select (count(*) >= 512)::int from job where worker is not null", 1)
        await office.world.job("urgent@reader.test", **TRANSACTIONAL)
        await office.until_count("select count(*) from job where prio = 0 and worker is not null", 1)
        claimed = await office.world.pool.fetchval("select count(*) from job where worker is not null")
        office.post.accepts.set()
        await office.until_delivered(601)

    assert claimed == 512 + 1
