"""Both clocks keep the same promises; the manual one keeps them without waiting."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.clock import Clock, SystemClock
from tests.clock import ManualClock

START = datetime(2026, 1, 1, tzinfo=UTC)

Drive = Callable[[Awaitable[None]], Awaitable[None]]


def system() -> tuple[Clock, Drive]:
    async def drive(work: Awaitable[None]) -> None:
        await work

    return SystemClock(), drive


def manual() -> tuple[Clock, Drive]:
    clock = ManualClock(START)

    async def drive(work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(0)
            await clock.advance(0.001)
        await task

    return clock, drive


@pytest.fixture(params=[system, manual], ids=["system", "manual"])
def clock_and_drive(request: pytest.FixtureRequest) -> tuple[Clock, Drive]:
    made: tuple[Clock, Drive] = request.param()
    return made


async def test_wall_time_is_aware_and_in_utc(clock_and_drive: tuple[Clock, Drive]) -> None:
    clock, _ = clock_and_drive

    assert clock.now().utcoffset() == timedelta(0)


async def test_a_sleep_takes_at_least_its_time_by_both_measures(clock_and_drive: tuple[Clock, Drive]) -> None:
    clock, drive = clock_and_drive
    wall, elapsed = clock.now(), clock.monotonic()

    await drive(clock.sleep(0.02))

    # The system's two clocks are read one after the other and are steered apart.
    assert clock.monotonic() - elapsed >= 0.02 - 1e-9
    assert (clock.now() - wall).total_seconds() >= 0.019


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_a_sleep_of_nothing_lets_others_run_once(clock_and_drive: tuple[Clock, Drive], seconds: float) -> None:
    clock, _ = clock_and_drive
    ran: list[str] = []
    asyncio.get_running_loop().call_soon(ran.append, "other")

    await clock.sleep(seconds)

    assert ran == ["other"]


async def test_the_shorter_sleep_ends_first(clock_and_drive: tuple[Clock, Drive]) -> None:
    clock, drive = clock_and_drive
    order: list[float] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        order.append(seconds)

    async def both() -> None:
        await asyncio.gather(sleeper(0.03), sleeper(0.01))

    await drive(both())

    assert order == [0.01, 0.03]


async def test_a_cancelled_sleep_ends_at_once_and_is_forgotten(clock_and_drive: tuple[Clock, Drive]) -> None:
    clock, drive = clock_and_drive
    sleeping = asyncio.ensure_future(clock.sleep(3600))
    await asyncio.sleep(0)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping

    await drive(clock.sleep(0.001))


@given(st.lists(st.floats(0.001, 100), max_size=10), st.floats(0, 200))
def test_advancing_wakes_just_those_whose_time_has_come_each_at_its_time(naps: list[float], span: float) -> None:
    async def scene() -> list[tuple[float, float]]:
        clock = ManualClock(START)
        woken: list[tuple[float, float]] = []

        async def sleeper(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append((seconds, clock.monotonic()))

        tasks = [asyncio.ensure_future(sleeper(nap)) for nap in naps]
        await asyncio.sleep(0)
        await clock.advance(span)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert clock.monotonic() == pytest.approx(span)
        assert (clock.now() - START).total_seconds() == pytest.approx(span, abs=1e-4)
        return woken

    woken = asyncio.run(scene())

    assert [seconds for seconds, _ in woken] == sorted(nap for nap in naps if nap <= span)
    assert all(at == seconds for seconds, at in woken)


async def test_a_sleeper_that_sleeps_again_wakes_again_within_one_advance() -> None:
    clock = ManualClock(START)
    ticks: list[float] = []

    async def ticker() -> None:
        while True:
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    ticking = asyncio.ensure_future(ticker())
    await asyncio.sleep(0)
    await clock.advance(3.5)
    ticking.cancel()

    assert ticks == [1, 2, 3]
