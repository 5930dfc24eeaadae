"""The signer of a worker, with mails that need no composing."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from mtad.compose.faults import ContentFault
from mtad.pipeline import signer as module
from mtad.pipeline.signer import TURN, Signed, Signer
from tests.clock import ManualClock


class Draft:
    """Signed with its own text."""

    def __init__(self, name: str) -> None:
        self.wanted = [(None, name.encode())]

    def signed(self, made: list[bytes]) -> bytes:
        return made[0]


class Clock(ManualClock):
    """Time passes as the test says."""

    elapsed = 0.0

    def __init__(self) -> None:
        super().__init__(datetime.now(UTC))

    def monotonic(self) -> float:
        return self.elapsed


class Bench:
    """A signer, what it wants signed, and the sizes of the groups in which it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, together: bool) -> None:
        self.groups: list[list[str]] = []
        self.signing = asyncio.Event()
        self.seconds = 0.0  # that composing takes, and signing
        self.composed = 0
        monkeypatch.setattr(module, "signatures", self._signatures)
        everything: Any = self
        self.clock = Clock()
        self.signer = Signer(everything, everything, self.clock, {}, everything if together else None)

    def _signatures(self, wanted: list[tuple[None, bytes]], _: object) -> list[bytes]:
        self.groups.append([name.decode() for _, name in wanted])
        self.signing.set()
        self.clock.elapsed += self.seconds
        return [name for _, name in wanted]

    def compose(self, facts: Any, *_: object) -> Any:
        self.clock.elapsed += self.seconds
        self.composed += 1
        if facts.name == "faulty":
            raise ContentFault("content:no such value")
        return SimpleNamespace(
            name=facts.name, return_path="", recipient=facts.name, message=lambda field: field,
            headers=facts.name, body=b"", from_domain="", return_domain="",
        )  # fmt: skip

    def draft(self, headers: Any, *_: object, **__: object) -> Draft:
        return Draft(headers)

    async def sign(self, name: str, class_: int = 2) -> Signed:
        mail: Any = SimpleNamespace(
            facts=SimpleNamespace(class_=class_, name=name), program=None, stream=SimpleNamespace(name="news")
        )
        return await self.signer.sign(mail)

    async def signed(self, *names: str) -> list[Signed | BaseException]:
        """What becomes of these, all asked for at once."""
        asked = [asyncio.ensure_future(self.sign(name)) for name in names]
        return await self.run(asked)

    async def run(self, asked: Sequence[asyncio.Future[Signed]]) -> list[Signed | BaseException]:
        running = asyncio.ensure_future(self.signer.run())
        found = await asyncio.gather(*asked, return_exceptions=True)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        return found


NAMES = [f"m{number}" for number in range(19)]


async def test_each_is_signed_by_itself_where_there_are_no_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, together=False)

    assert [one.recipient for one in await bench.signed(*NAMES) if isinstance(one, Signed)] == NAMES
    assert bench.groups == [[name] for name in NAMES]


async def test_eight_are_signed_together_and_the_last_do_not_wait_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, together=True)

    found = await bench.signed(*NAMES)

    assert [one.message for one in found if isinstance(one, Signed)] == [name.encode() for name in NAMES]
    assert bench.groups == [NAMES[:8], NAMES[8:16], NAMES[16:]]
    assert not bench.signer.busy


@pytest.mark.parametrize("together", [False, True])
async def test_one_that_cannot_be_composed_holds_up_nobody(monkeypatch: pytest.MonkeyPatch, *, together: bool) -> None:
    bench = Bench(monkeypatch, together=together)

    first, faulty, last = await bench.signed("first", "faulty", "last")

    assert isinstance(faulty, ContentFault)
    assert isinstance(first, Signed)
    assert isinstance(last, Signed)


@pytest.mark.parametrize("together", [False, True])
async def test_transactional_mail_is_signed_first(monkeypatch: pytest.MonkeyPatch, *, together: bool) -> None:
    bench = Bench(monkeypatch, together=together)
    asked = [asyncio.ensure_future(bench.sign(f"bulk{number}")) for number in range(9)]
    asked.append(asyncio.ensure_future(bench.sign("receipt", class_=0)))
    await asyncio.sleep(0)

    await bench.run(asked)

    assert bench.groups[0][0] == "receipt"


async def test_transactional_mail_overtakes_what_is_composed_already(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, together=False)
    bench.seconds = 2 * TURN  # so that each is composed in a turn of its own
    asked = [asyncio.ensure_future(bench.sign(name)) for name in NAMES]
    await asyncio.sleep(0)

    async def late() -> Signed:
        await bench.signing.wait()
        return await bench.sign("receipt", class_=0)

    await bench.run([*asked, asyncio.ensure_future(late())])

    assert bench.groups.index(["receipt"]) <= 2


async def test_who_has_gone_since_his_mail_was_composed_costs_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, together=False)
    bench.seconds = 2 * TURN
    asked = [asyncio.ensure_future(bench.sign(name)) for name in NAMES]
    await asyncio.sleep(0)

    async def leaves() -> Signed:
        await bench.signing.wait()
        asked[5].cancel()
        return await bench.sign("last")

    await bench.run([*asked, asyncio.ensure_future(leaves())])

    assert [NAMES[5]] not in bench.groups


@pytest.mark.parametrize("together", [False, True])
async def test_who_no_longer_waits_is_passed_over(monkeypatch: pytest.MonkeyPatch, *, together: bool) -> None:
    bench = Bench(monkeypatch, together=together)
    asked = [asyncio.ensure_future(bench.sign(name)) for name in ("gone", "here")]
    await asyncio.sleep(0)
    asked[0].cancel()

    await bench.run(asked)

    assert [name for group in bench.groups for name in group] == ["here"]


@pytest.mark.parametrize(("seconds", "most"), [(0.3 * TURN, 4), (2 * TURN, 1)])
async def test_as_many_are_composed_in_a_turn_as_it_has_time_for(
    monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    bench = Bench(monkeypatch, together=False)
    bench.seconds = seconds
    turns: list[int] = []  # mails composed before each

    def turn() -> None:
        turns.append(bench.composed)
        loop.call_soon(turn)

    loop = asyncio.get_running_loop()
    loop.call_soon(turn)
    await bench.signed(*NAMES)

    assert max(after - before for before, after in pairwise(turns)) == most
