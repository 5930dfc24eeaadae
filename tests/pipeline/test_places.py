"""How many sessions a lane has: as many as it may, bears and has mail for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from typing import Any

import pytest

from mtad.base.config import Shape
from mtad.pipeline import sessions
from mtad.pipeline.places import Places
from mtad.pipeline.signer import Signer as Signing
from mtad.queue import store
from mtad.queue.store import Grant, Wish
from mtad.shape.feedback import INITIAL
from tests.pipeline.office import Office, is_so, open_office, turns


async def test_a_route_to_an_ipv6_address_has_its_own_limits(office: Office) -> None:
    site = (await store.sites_by_name(office.world.rows.conn, {"[::1]:25": ["0 [::1]:25"]}))["[::1]:25"]
    await office.world.job("ann@six.test", site_id=site)

    async with open_office(office):
        await office.until_delivered(1)

    assert await office.world.pool.fetchval("select sessions from lane where site_id = $1", site) == 3


async def test_no_more_connections_are_opened_than_a_lane_may(office: Office) -> None:
    site = (await store.sites_by_name(office.world.rows.conn, {"[::2]:25": ["0 [::2]:25"]}))["[::2]:25"]
    for n in range(7):
        await office.world.job(f"p{n}@shy.test", site_id=site)

    async with open_office(office):
        await office.until_delivered(7)

    assert len(office.post.opened_at) == 7
    assert office.post.opened_at[-1] - office.post.opened_at[0] >= 6 / 20 - 0.05


async def test_where_others_hold_all_sessions_but_one_that_one_is_enough_and_no_more_are_asked_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [f"p{n}@reader.test" for n in range(60)]
    for person in people:
        await office.world.job(person)
    conn = office.world.rows.conn
    other = await office.world.worker(1)
    await store.lanes_of(conn, [store.Limit(office.world.site, 100, 100, Shape().connection_limit)])
    most = Shape().connection_limit - 1
    assert await office.world.hold(other, most, growing=True) == most
    asked = 0
    ask = store.hold_sessions

    async def counted(*arguments: Any) -> dict[int, Grant]:
        nonlocal asked
        asked += 1
        return await ask(*arguments)

    monkeypatch.setattr(store, "hold_sessions", counted)

    async with open_office(office):
        await office.until_delivered(60)

    assert sorted(office.post.sent) == sorted(people)
    assert asked < 60, "a session was asked for with each mail"


async def test_a_lane_begins_with_few_sessions_has_more_with_success_and_half_with_trouble(office: Office) -> None:
    people = [f"p{n}@reader.test" for n in range(90)]
    for person in people:
        await office.world.job(person)
    most = Shape().connection_limit
    office.post.accepts.clear()

    def mails_on_the_wire(number: int) -> Callable[[], Awaitable[bool]]:
        async def reached() -> bool:
            return office.post.waiting == number

        return reached

    async with open_office(office):
        await office.until(mails_on_the_wire(INITIAL))
        office.post.stops_after = 20
        office.post.accepts.set()
        await office.until(mails_on_the_wire(most))
        office.post.refusals = most
        office.post.accepts.set()
        await office.until(mails_on_the_wire(most // 2))
        for _ in range(50):
            await asyncio.sleep(0)
        assert office.post.waiting == most // 2
        office.post.accepts.set()
        await office.until_count("select count(*) from job where attempt = 0", 0)


async def test_a_worker_that_has_more_than_its_share_leaves_the_rest_to_one_that_comes_later(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtad.pipeline.places.KEPT_FOR", 0.0)
    for n in range(300):
        await office.world.job(f"p{n}@reader.test")
    most = Shape().connection_limit
    office.post.stops_after = 20

    async def all_are_used() -> bool:
        return office.post.waiting == most

    async def other_has_its_share() -> bool:
        return await office.world.hold(other, most // 2, growing=True) == most // 2

    async with open_office(office):
        await office.until(all_are_used)
        other = await office.world.worker(1)
        assert not await other_has_its_share()
        office.post.accepts.set()
        await office.until(other_has_its_share)
        await office.until_delivered(300)


async def test_a_worker_at_its_most_sessions_closes_idle_ones_for_other_sites(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 2)
    named = {f"mx{n}.test": ["0 mx.test:25"] for n in range(3)}
    one, two, three = (await store.sites_by_name(office.world.rows.conn, named)).values()
    await office.world.job("ann@reader.test", site_id=one)
    await office.world.job("bob@reader.test", site_id=two)

    async with open_office(office):
        await office.until_delivered(2)
        await office.world.job("cem@reader.test", site_id=three)
        await office.until_delivered(3)


async def test_no_more_sessions_are_on_their_way_than_mails_wait(office: Office) -> None:
    await office.world.job()
    office.post.answers.clear()

    async with open_office(office):
        await office.until(lambda: is_so(office.post.opened == 1))
        (site,) = office.pipeline._sites.values()
        site.grow(inf)
        site.open_for_backlog()
        await turns()
        office.post.answers.set()
        await office.until_delivered(1)

    assert office.post.opened == 1


async def test_a_worker_that_cannot_sign_as_fast_opens_no_further_sessions(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        await office.world.job(f"p{n}@reader.test")
    office.post.accepts.clear()

    async with open_office(office):
        await office.until(lambda: is_so(office.post.waiting == 1))
        (site,) = office.pipeline._sites.values()
        with monkeypatch.context() as patch:
            patch.setattr(Signing, "busy", True)
            site.grow(inf)
            assert site.opened == 1
        site.grow(inf)
        await office.until(lambda: is_so(office.post.opened == 2))
        office.post.accepts.set()
        await office.until_delivered(4)


async def test_a_lane_without_mail_or_sessions_is_forgotten(office: Office) -> None:
    await office.world.job()

    async with open_office(office):
        await office.until_delivered(1)

        async def forgotten() -> bool:
            # Again and again: the ledger may have the mail before its session has fallen idle.
            for site in office.pipeline._sites.values():
                site.close_idle()
            return not office.pipeline._sites

        await office.until(forgotten)
        await office.world.job("bob@reader.test")
        await office.until_delivered(2)


async def test_a_drain_waits_for_sessions_that_are_granted_while_it_runs(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.world.job()
    asked, answer = asyncio.Event(), asyncio.Event()
    ask = store.hold_sessions

    async def slowly(*arguments: Any) -> dict[int, Grant]:
        asked.set()
        await answer.wait()
        return await ask(*arguments)

    monkeypatch.setattr(store, "hold_sessions", slowly)
    office.post.answers.clear()

    async def dialled() -> bool:
        return office.post.opened == 1

    async with open_office(office):
        await asked.wait()
        office.pipeline.drain()
        await office.until_count("select count(*) from job where worker is null", 1)
        answer.set()
        await office.until(dialled)
        await turns()  # whoever does not wait for the session goes home now
        office.post.answers.set()

    assert await office.world.pool.fetchval("select sum(sessions) from lane_session") == 0


@contextlib.asynccontextmanager
async def places_of(office: Office) -> AsyncIterator[tuple[Places, asyncio.Event]]:
    """Places of the lane, and the event without which nobody hears how many it holds."""
    tools, heard = office.pipeline._tools, asyncio.Event()
    hold = tools.sessions.hold
    heard.set()

    async def slowly(wish: Wish, now: int) -> Grant:
        granted = await hold(wish, now)
        await heard.wait()
        return granted

    limit = store.Limit(office.world.site, 100, 100, Shape().connection_limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tools.sessions, "hold", slowly)
        async with open_office(office):
            (lane,) = await store.lanes_of(office.world.rows.conn, [limit])
            yield Places(lane, Shape(), tools), heard


async def test_of_two_sessions_that_end_together_neither_goes_on_in_the_others_place(office: Office) -> None:
    async with places_of(office) as (places, heard):
        places.ask(2, growing=False)
        taken = await places.take()
        heard.clear()
        ending = [asyncio.create_task(places.leave(again=False, handed_on=False)) for _ in range(2)]
        await turns()
        heard.set()
        again = await asyncio.gather(*ending)

    assert taken == (2, True)
    assert again == [False, False]
    assert await office.world.pool.fetchval("select sum(sessions) from lane_session") == 0


async def test_a_session_that_ends_while_places_are_asked_for_leaves_its_own_to_nobody(office: Office) -> None:
    async with places_of(office) as (places, heard):
        places.ask(1, growing=False)
        await places.take()
        heard.clear()
        places.ask(1, growing=False)
        taking = asyncio.create_task(places.take())
        await turns()
        ending = asyncio.create_task(places.leave(again=False, handed_on=False))
        await turns()
        heard.set()
        taken, again = await taking, await ending

    assert (taken, again) == ((1, True), False)
    assert await office.world.pool.fetchval("select sum(sessions) from lane_session") == 1
