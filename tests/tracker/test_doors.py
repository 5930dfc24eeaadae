"""Doors and what they are handed, without sockets."""

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from tests.tracker.made import NOON, hit
from tests.tracker.outside import clicked, opened, request
from tracker.door import MOST_HELD, Door, Doors
from tracker.hits import Hit
from tracker.noting import Moment
from tracker.plain import Plain


class Wire:
    """A transport that notes who pauses and resumes it."""

    def __init__(self) -> None:
        self.reads = True
        self.written = 0
        self.protocol: asyncio.BaseProtocol | None = None

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, _: bytes) -> None:
        self.written += 1


class Successor(asyncio.Protocol):
    """Pauses what gives it more than it wants."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self.transport, Wire)
        if len(data) > MOST_HELD:
            self.transport.pause_reading()


class Disk:
    """Answers of a tracker whose clock can fail once, and whose disk is never done, or is a defect."""

    def __init__(self) -> None:
        self.noted: list[Hit] = []
        self.together: list[int] = []
        self.no_time = False
        self.broken = False

    def moment(self) -> Moment:
        if self.no_time:
            self.no_time = False
            raise OverflowError("no time")
        return Moment(NOON, 0)

    def plain(self, request: Plain, _moment: Moment, _peer: str) -> tuple[bytes, Hit | None]:
        if not request.pixel:
            raise KeyError("a defect")
        return b"", hit()

    def note(self, hits: Sequence[Hit], _now: float, then: Callable[[bool], None]) -> None:
        self.noted += hits
        self.together.append(len(hits))
        if self.broken:
            if len(hits) > 1:
                then(True)
            raise KeyError("a defect")


def door_of(doors: Doors) -> tuple[Door, Wire]:
    door, wire = Door(doors, Successor), Wire()
    door.connection_made(cast("asyncio.Transport", wire))
    return door, wire


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_aiohttp_can_pause_a_pipeline_that_it_is_handed() -> None:
    door, wire = door_of(Doors(Disk(), keepalive=3600.0))
    door.data_received(request(opened(), "Connection: close\r\n"))  # waits for others, and is not plain
    door.data_received(b"x" * (MOST_HELD + 1))
    assert not wire.reads
    await turns()

    assert isinstance(wire.protocol, Successor)
    assert not wire.reads


async def test_a_time_that_cannot_be_told_costs_no_door_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.door.APART", 0.0)
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    disk = Disk()
    doors = Doors(disk, keepalive=3600.0)
    disk.no_time = True
    door_of(doors)[0].data_received(request(opened()))
    async with asyncio.timeout(60):
        while not disk.noted:  # though no other request comes
            await turns()

    assert [type(one) for one in told] == [OverflowError]
    for door in list(doors.open):
        door.connection_lost(None)


@pytest.mark.parametrize("together", [1, 2], ids=["before", "after"])
async def test_a_defect_in_noting_keeps_nobody_waiting_and_answers_nobody_twice(together: int) -> None:
    """Whether it raises before it tells or after."""
    disk = Disk()
    disk.broken = True
    doors = Doors(disk, keepalive=3600.0)
    wires = []
    for _ in range(together):
        door, wire = door_of(doors)
        door.data_received(request(opened()))
        wires.append(wire)
    await turns()

    assert [wire.written for wire in wires] == [1] * together
    for door in list(doors.open):
        door.connection_lost(None)


async def test_what_is_taken_in_one_turn_is_bounded_and_the_rest_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.door.MOST", 2)
    disk = Disk()
    doors = Doors(disk, keepalive=3600.0)
    for _ in range(5):
        door_of(doors)[0].data_received(request(opened()))
    await turns()

    assert disk.together == [2, 2, 1]
    for door in list(doors.open):
        door.connection_lost(None)


async def test_a_request_that_cannot_be_answered_for_a_defect_is_aiohttps_and_the_others_are_answered() -> None:
    disk = Disk()
    doors = Doors(disk, keepalive=3600.0)
    wires = []
    for path in (opened(), clicked(), opened()):
        door, wire = door_of(doors)
        door.data_received(request(path))
        wires.append(wire)
    await turns()

    assert [isinstance(wire.protocol, Successor) for wire in wires] == [False, True, False]
    assert disk.together == [2]
    for door in list(doors.open):
        door.connection_lost(None)
