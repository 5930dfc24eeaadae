"""Preferences: less at any time, more only within a day or by a new double opt-in."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from tests.consent.conftest import FORM, VISITOR, Office, serving
from tests.tracker.made import KEYS
from tests.tracker.test_tracker import until
from tracker import tokens
from tracker.desk import Act
from tracker.pages import render_preferences

DAY = timedelta(days=1)


async def gate(office: Office, contact: int) -> int:
    return int(await office.pool.fetchval("select version from gate where contact_id = $1", contact))


async def both_streams(office: Office) -> int:
    """Somebody who gets both."""
    await office.apply(FORM.replace("site", "shop").replace("news", "shop"))
    await office.joined()
    await office.later(2 * DAY)
    return await office.joined(form="shop")


async def test_the_page_knows_the_person_and_how_each_stream_stands(office: Office) -> None:
    contact = await both_streams(office)
    await office.act(Act.LEAVE, contact, 2)

    person = await office.person(contact)

    assert (person.address, person.language, person.title()) == ("ann@reader.test", "en", "The Monday letter")
    news, shop = person.streams
    assert (news.title, news.subscribed, news.measured, news.undo, news.form) == (
        "The Monday letter", True, True, False, True,
    )  # fmt: skip
    assert (shop.subscribed, shop.undo) == (False, True)


async def test_leaving_one_stream_leaves_the_other(office: Office) -> None:
    contact = await both_streams(office)
    before = await gate(office, contact)

    assert await office.act(Act.LEAVE, contact, 1)
    assert (await office.status(1), await office.status(2)) == ("unsubscribed", "subscribed")
    assert await gate(office, contact) > before, "mail that was judged before is judged anew"


async def test_leaving_everything_leaves_everything(office: Office) -> None:
    contact = await both_streams(office)

    assert await office.act(Act.LEAVE, contact, None)
    assert (await office.status(1), await office.status(2)) == ("unsubscribed", "unsubscribed")


@pytest.mark.parametrize(
    ("stream", "left"),
    [({"stream": "2"}, ("subscribed", "unsubscribed")), ({}, ("unsubscribed", "unsubscribed"))],
    ids=["one", "all"],
)
async def test_who_leaves_while_the_database_is_away_has_left_when_it_is_back(
    office: Office, monkeypatch: pytest.MonkeyPatch, stream: dict[str, str], left: tuple[str, str]
) -> None:
    contact = await both_streams(office)
    there = office.desk.act
    back = asyncio.Event()

    async def act(*given: Any, **more: Any) -> bool:
        if not back.is_set():
            raise ConnectionRefusedError("away")
        return await there(*given, **more)

    monkeypatch.setattr(office.desk, "act", act)
    async with serving(office) as (base, _), aiohttp.ClientSession() as http:
        path = tokens.preferences_url(base, tokens.preferences_token(KEYS, contact, 1))
        async with http.post(path, data={"act": "leave", **stream}) as answer:
            assert (answer.status, "noted" in await answer.text()) == (200, True)
        assert await office.status(2) == "subscribed"
        back.set()
        await until(lambda: _stand(office, left))


async def _stand(office: Office, expected: tuple[str, str]) -> bool:
    return (await office.status(1), await office.status(2)) == expected


async def test_leaving_all_streams_again_under_the_same_id_changes_nothing(office: Office) -> None:
    contact = await both_streams(office)
    event, at = office.event(), datetime.now(UTC)
    await office.desk.act(Act.LEAVE, contact, None, VISITOR, event_id=event, at=at)
    await office.act(Act.UNDO, contact, 1)
    await office.act(Act.UNDO, contact, 2)

    assert not await office.desk.act(Act.LEAVE, contact, None, VISITOR, event_id=event, at=at)
    assert (await office.status(1), await office.status(2)) == ("subscribed", "subscribed")


async def test_a_break_lasts_thirty_days_and_holds_back_what_is_queued(office: Office) -> None:
    contact = await office.joined()
    before = await gate(office, contact)

    assert await office.act(Act.BREAK, contact)
    until = (await office.person(contact)).streams[0].break_until
    assert until is not None
    assert await office.pool.fetchval("select $1 - now() between '29 days 23 hours' and '30 days'", until)
    assert await gate(office, contact) > before


@pytest.mark.parametrize("act", [Act.LEAVE, Act.BREAK])
@pytest.mark.parametrize(("hours", "holds"), [(23, True), (25, False)])
async def test_undo_is_good_for_a_day(office: Office, act: Act, hours: int, holds: bool) -> None:
    contact = await office.joined()
    await office.act(act, contact)
    await office.later(timedelta(hours=hours))

    assert (await office.person(contact)).streams[0].undo is holds
    assert await office.act(Act.UNDO, contact) is holds
    (now,) = (await office.person(contact)).streams
    assert (now.subscribed and now.break_until is None) is holds


async def test_who_leaves_in_a_break_and_takes_it_back_is_in_the_break_again(office: Office) -> None:
    contact = await office.joined()
    await office.act(Act.BREAK, contact)
    (before,) = (await office.person(contact)).streams
    await office.act(Act.LEAVE, contact)

    assert await office.act(Act.UNDO, contact)
    (after,) = (await office.person(contact)).streams
    assert (after.subscribed, after.break_until, after.undo) == (True, before.break_until, False)
    assert not await office.act(Act.UNDO, contact), "the break may be older than a day"


async def test_a_break_that_is_too_old_to_be_undone_has_a_button_that_ends_it(office: Office) -> None:
    contact = await office.joined()
    assert not await office.act(Act.RESUME, contact), "there is none"
    await office.act(Act.BREAK, contact)
    assert 'value="resume"' not in await shown(office, contact)
    await office.later(2 * DAY)
    (job,) = await office.jobs()
    await office.pool.execute("update job set class = 2, due = now() + interval '28 days'")
    assert 'value="resume"' in await shown(office, contact)

    assert await office.act(Act.RESUME, contact)
    assert (await office.person(contact)).streams[0].break_until is None
    assert await office.pool.fetchval("select due <= now() from job where id = $1", job), "it is judged anew"
    assert not await office.act(Act.RESUME, contact)


async def shown(office: Office, contact: int) -> str:
    return render_preferences(await office.person(contact), "en")


async def test_undo_of_nothing_and_of_what_others_did_does_nothing(office: Office) -> None:
    contact = await office.joined()
    assert not await office.act(Act.UNDO, contact)
    await office.pool.execute(
        "update subscription set status = 'unsubscribed', changed_by = 'operator', changed = now()"
    )

    assert not await office.act(Act.UNDO, contact)
    assert await office.status() == "unsubscribed"


async def test_who_never_confirmed_cannot_undo_her_way_in(office: Office) -> None:
    await office.ask()
    contact = await office.pool.fetchval("select id from contact")
    await office.act(Act.LEAVE, contact)

    assert not await office.act(Act.UNDO, contact)
    assert await office.status() == "unsubscribed"


async def test_coming_back_after_a_day_takes_a_new_double_opt_in(office: Office) -> None:
    contact = await office.joined()
    await office.act(Act.LEAVE, contact)
    await office.later(2 * DAY)

    await office.apply(FORM.replace("site", "brief").replace("Yes", "Ja") + 'language = "de"\nmeasuring = "Ja."')
    await office.pool.execute("update contact set locale = 'de-AT'")
    assert await office.act(Act.RETURN, contact)
    assert await office.status() == "unsubscribed"
    job = (await office.jobs())[-1]
    proof = (await office.proofs())[-1]
    assert await office.asking(job) == (proof["consent"], "") == ("Ja, write to me. I can stop it at any time.", "")
    assert not await office.act(Act.RETURN, contact), "once an hour"
    await office.confirm(job)
    assert await office.status() == "subscribed"
    person = await office.desk.person(contact, await office.pool.fetchval("select max(id) from program"))
    assert person is not None
    assert person.streams[0].stream_id == person.stream_id == 1


async def test_not_being_measured_is_for_one_stream_or_for_all(office: Office) -> None:
    contact = await both_streams(office)

    assert await office.act(Act.UNMEASURE, contact, 1)
    assert [one.measured for one in (await office.person(contact)).streams] == [False, True]
    assert await office.act(Act.UNMEASURE, contact, None)
    assert [one.measured for one in (await office.person(contact)).streams] == [False, False]
    assert not await office.act(Act.UNMEASURE, contact, None)


@pytest.mark.parametrize("act", list(Act))
async def test_a_stream_that_is_not_the_persons_is_nobodys(office: Office, act: Act) -> None:
    contact = await office.joined()

    assert not await office.act(act, contact, 2)
    assert await office.status(2) is None


async def test_a_contact_that_was_erased_has_no_page(office: Office) -> None:
    contact = await office.joined()
    await office.pool.execute("update contact set erased = true")

    assert await office.desk.person(contact, 1) is None
