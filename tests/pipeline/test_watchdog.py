"""A delivery that hangs is ended, and who makes progress is left alone."""

import asyncio
from typing import Any

import pytest

from mtad.base.clock import SystemClock
from mtad.pipeline.beginner import STALE, Begun, Turn
from mtad.pipeline.watchdog import Phase, Step, Watchdog
from mtad.queue import store
from mtad.smtp.results import Result, TooLate
from tests.pipeline.office import Office, Postman, is_so, open_office


@pytest.mark.parametrize("phase", [Phase.SIGN, Phase.BEGIN, Phase.SEND])
async def test_a_delivery_that_hangs_is_ended_and_the_mail_before_and_in_its_hand_are_not_lost(
    office: Office, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    """The mail before is settled; one that may have been sent is in doubt, any other is tried again."""
    watchdog, never = office.pipeline._tools.watchdog, asyncio.Event()
    hangs = {
        Phase.SIGN: (office.pipeline._tools.signer, "sign"),
        Phase.BEGIN: (office.pipeline._tools.beginner, "begin"),
        Phase.SEND: (Postman, "send"),
    }[phase]
    works = getattr(*hangs)
    calls = 0

    async def second_hangs(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            await never.wait()
        return await works(*arguments, **named)

    monkeypatch.setattr(*hangs, second_hangs)
    for n in range(2):
        await office.world.job(f"p{n}@reader.test")

    async def stuck() -> bool:
        return calls == 2

    async with open_office(office):
        await office.until(stuck)
        watchdog.look()
        for step in watchdog.steps:
            step.since -= 1e6
        watchdog.look()
        await office.until_delivered(1 if phase is Phase.SEND else 2)
        if phase is Phase.SEND:
            await office.until_count("select count(*) from job where doubts = 1 and reason like '%watchdog%'", 1)

    assert len(office.post.sent) == (1 if phase is Phase.SEND else 2)
    assert office.post.opened == 2 - (phase is Phase.SEND)


@pytest.mark.parametrize("too_late", [True, False])
async def test_mail_that_goes_back_unsent_is_never_in_doubt_however_long_the_database_is_away(
    office: Office, monkeypatch: pytest.MonkeyPatch, *, too_late: bool
) -> None:
    """Its session was closed meanwhile, or its verdict is stale."""
    tools, send, begin = office.pipeline._tools, Postman.send, office.pipeline._tools.beginner.begin
    office.pool.refused = store.SQL["release"]

    async def closed_meanwhile(post: Postman, *arguments: Any, **named: Any) -> Result:
        if too_late and office.pool.refused:
            await post.close()
            return TooLate(post.host)
        return await send(post, *arguments, **named)

    async def stale(turn: Turn) -> Begun:
        return STALE if not too_late and office.pool.refused else await begin(turn)

    monkeypatch.setattr(Postman, "send", closed_meanwhile)
    monkeypatch.setattr(tools.beginner, "begin", stale)
    await office.world.job()

    async with open_office(office):
        await office.until(lambda: is_so(office.pool.refusals > 0))
        tools.watchdog.look()
        for step in tools.watchdog.steps:
            step.since -= 1e6
        tools.watchdog.look()
        ended = [step.ended for step in tools.watchdog.steps]
        office.pool.refused = ""
        await office.until_delivered(1)

    assert ended == [False]
    assert await office.world.pool.fetchval("select doubts from ledger") == 0


async def test_who_waits_for_a_token_makes_progress_and_what_is_settled_is_not_settled_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second settling could give back a mail that is being sent again by then."""
    tools, again, never = office.pipeline._tools, asyncio.Event(), asyncio.Event()
    begins, submits = tools.beginner.begin, tools.settler.batcher.submit
    waits = 0
    settled: list[str] = []

    async def second_waits(turn: Turn) -> Begun:
        nonlocal waits
        if turn.last is None and not waits:
            return await begins(turn)
        waits += 1
        if turn.last is not None:
            await tools.settler.batcher.put(turn.last)
        if waits == 1:
            await again.wait()
            return Begun(0.1, 0.0)
        if waits == 2:
            await never.wait()
        return await begins(turn)

    async def submit(row: Any) -> Any:
        settled.append(row.facts.address)
        return await submits(row)

    async def waited_once() -> bool:
        return waits == 1

    async def waits_again() -> bool:
        return waits == 2

    def look_after_an_hour() -> None:
        tools.watchdog.look()
        for step in tools.watchdog.steps:
            step.since -= 1e6
        again.set()

    monkeypatch.setattr(tools.beginner, "begin", second_waits)
    monkeypatch.setattr(tools.settler.batcher, "submit", submit)
    for n in range(2):
        await office.world.job(f"p{n}@reader.test")

    async with open_office(office):
        await office.until(waited_once)
        look_after_an_hour()
        await office.until(waits_again)
        look_after_an_hour()
        ended = [step.ended for step in tools.watchdog.steps]
        tools.watchdog.look()
        await office.until_delivered(2)

    assert ended == [False]
    assert settled.count("p0@reader.test") == 1
    assert len(office.post.sent) == 2


async def test_a_session_that_is_aborted_as_the_watchdog_ends_it_is_over() -> None:
    watchdog, never = Watchdog(SystemClock()), asyncio.Event()

    async def hangs(step: Step) -> bool:
        step.phase = Phase.SIGN
        return await never.wait()

    async def given_up(_: Step) -> None:
        pytest.fail("what it held is for whoever aborts it")

    session = asyncio.create_task(watchdog.guard(hangs, given_up))
    await asyncio.sleep(0)
    for _ in range(2):
        watchdog.look()
        for step in watchdog.steps:
            step.since -= 1e6
    session.cancel()

    with pytest.raises(asyncio.CancelledError):
        await session
