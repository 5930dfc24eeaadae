"""Whoever waits for the disk is told once: that it is done, or that it was waited for too long."""

import asyncio
from collections.abc import Sequence

from mtad.base.clock import SystemClock
from tests.tracker.made import hit
from tracker.hits import Hit, Kind
from tracker.noting import DROPPED, JOURNAL_PATIENCE, Noting, Told


async def test_who_was_told_is_not_told_again() -> None:
    """Neither by a disk that is done too late, nor by the end of a patience that was not needed."""
    disk: list[Told] = []

    def record(_hits: Sequence[Hit], told: Told, _alone: bool) -> None:
        disk.append(told)

    noting = Noting(record, trusted_proxies=[], clock=SystemClock())
    dropped = DROPPED.labels(kind=Kind.CLICK)
    before = dropped._value.get()
    loop = asyncio.get_running_loop()
    given_up: asyncio.Future[bool] = loop.create_future()
    in_time: list[bool] = []
    late: list[bool] = []

    def tell_late(durable: bool) -> None:
        late.append(durable)
        given_up.set_result(durable)

    since = loop.time() - JOURNAL_PATIENCE  # all patience ends with the next turn of the loop
    noting.begin([hit()], since, in_time.append)
    noting.begin([hit()], since, tell_late)
    disk[0](None)
    async with asyncio.timeout(10):
        await given_up
    disk[0](OSError("said twice"))
    disk[1](None)
    disk[1](OSError("said twice"))

    assert in_time == [True]
    assert late == [False]
    assert dropped._value.get() == before + 1, "what is said too late is not counted"


async def test_who_fails_when_told_costs_the_others_no_patience() -> None:
    loop = asyncio.get_running_loop()
    failed: list[object] = []
    loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
    noting = Noting(lambda _hits, _told, _alone: None, trusted_proxies=[], clock=SystemClock())
    given_up: asyncio.Future[bool] = loop.create_future()

    def fail(_durable: bool) -> None:
        raise KeyError("a defect")

    since = loop.time() - JOURNAL_PATIENCE
    noting.begin([hit()], since, fail)
    noting.begin([hit()], since, given_up.set_result)
    async with asyncio.timeout(10):
        assert not await given_up

    assert [type(one) for one in failed] == [KeyError]


async def test_a_defect_keeps_nobody_waiting() -> None:
    def record(_hits: Sequence[Hit], _told: Told, _alone: bool) -> None:
        raise KeyError("a defect")

    noting = Noting(record, trusted_proxies=[], clock=SystemClock())
    dropped = DROPPED.labels(kind=Kind.CLICK)
    before = dropped._value.get()
    told: list[bool] = []
    noting.begin([hit(), hit()], 0.0, told.append)

    assert told == [False]
    assert dropped._value.get() == before + 2
