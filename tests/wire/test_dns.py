"""What is asked of name servers, over real UDP and TCP, and for how long an answer is remembered."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from mtad.wire import dns
from mtad.wire.dns import (
    FAILURE_TTL,
    LEAST_TTL,
    MOST_NEGATIVE_TTL,
    MOST_TTL,
    DnsLookup,
    Memory,
    Records,
    Unresolved,
)
from tests.clock import ManualClock
from tests.wire.nameserver import NameServer


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with NameServer(
        {
            ("x.test", "MX"): ["10 a.test.", "20 B.test."],
            ("x.test", "TXT"): ['"v=DKIM1; " "p=ab c"'],
            ("alias.test", "CNAME"): ["x.test."],
        }
    ) as running:
        yield running


async def test_what_the_server_says_is_told_with_its_time(server: NameServer) -> None:
    lookup = DnsLookup([server.address])

    mx, txt = await lookup.records("x.test", "MX"), await lookup.records("X.test", "TXT")

    assert (sorted(mx.texts), mx.ttl, mx.exists) == (["10 a.test.", "20 B.test."], 600, True)
    assert txt == Records(["v=DKIM1; p=ab c"], 600)


async def test_what_is_not_there_and_what_does_not_exist_differ_and_have_the_time_of_the_soa(
    server: NameServer,
) -> None:
    lookup = DnsLookup([server.address])

    assert await lookup.records("x.test", "A") == Records((), 900)
    assert await lookup.records("y.test", "A") == Records((), 900, exists=False)


async def test_a_long_answer_is_fetched_over_tcp(server: NameServer) -> None:
    server.records["long.test", "MX"] = [f"{n} mx{n}.a-name-of-some-length.test." for n in range(100)]
    server.long = {"long.test"}

    answer = await DnsLookup([server.address]).records("long.test", "MX")

    assert len(answer.texts) == 100
    assert server.asked_by_tcp == [("long.test", "MX")]


async def test_no_answer_and_servfail_say_nothing_about_the_name(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "LOOKUP_SECONDS", 0.05)
    server.failing, server.silent = {"x.test"}, {"y.test"}
    lookup = DnsLookup([server.address])

    for name in ("x.test", "y.test", "a" * 64 + ".test"):
        with pytest.raises(Unresolved, match=f"DNS MX {name}: "):
            await lookup.records(name, "MX")


async def test_the_next_server_is_asked_when_one_fails(server: NameServer) -> None:
    async with NameServer() as other:
        other.failing = {"x.test"}
        answer = await DnsLookup([other.address, server.address]).records("x.test", "MX")

    assert len(answer.texts) == 2


class Table:
    """A lookup that counts, and waits where it is told to."""

    def __init__(self) -> None:
        self.answer: Records | None = Records(["10 a.test."], 600)
        self.asked = 0
        self.heard = asyncio.Event()
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.clock = ManualClock(datetime(2026, 1, 2, tzinfo=UTC))
        self.memory = Memory(self.clock, self.lookup)

    async def lookup(self, name: str, kind: str) -> Records:
        self.asked += 1
        self.heard.set()
        await self.speaks.wait()
        if self.answer is None:
            raise Unresolved("SERVFAIL")
        return self.answer


@pytest.fixture
async def table() -> Table:
    return Table()


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (Records(["x"], 0), LEAST_TTL),
        (Records(["x"], 600), 600),
        (Records(["x"], 10 * MOST_TTL), MOST_TTL),
        (Records((), 0, exists=False), LEAST_TTL),
        (Records((), 100, exists=False), 100),
        (Records((), 10800), MOST_NEGATIVE_TTL),
        (None, FAILURE_TTL),
    ],
)
async def test_answers_are_kept_as_long_as_they_say_within_bounds(
    table: Table, answer: Records | None, kept: float
) -> None:
    async def ask() -> Records | None:
        try:
            return await table.memory.records("x.test", "MX")
        except Unresolved:
            return None

    table.answer = answer
    first = await ask()
    await table.clock.advance(kept - 1)
    again = await ask()
    before = table.asked
    await table.clock.advance(1)
    await ask()

    assert (before, table.asked) == (1, 2)
    if first is not None and again is not None:
        assert (first.ttl, again.ttl) == (kept, 1)


async def test_a_question_under_way_is_not_asked_again(table: Table) -> None:
    table.speaks.clear()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(table.memory.records("x.test", "MX")) for _ in range(100)]
        await table.heard.wait()
        table.speaks.set()

    assert table.asked == 1
    assert all(task.result() == table.answer for task in asking)


async def test_who_waits_for_the_question_of_another_that_was_cancelled_asks_himself(table: Table) -> None:
    table.speaks.clear()
    first = asyncio.create_task(table.memory.records("x.test", "MX"))
    second = asyncio.create_task(table.memory.records("x.test", "MX"))
    await table.heard.wait()
    first.cancel()
    table.speaks.set()

    assert await second == table.answer
    assert table.asked == 2


async def test_memory_is_bounded_and_forgets_the_oldest(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "MAX_CACHED", 3)
    for name in ("a", "b", "c", "a", "d", "b", "a"):
        await table.memory.records(name, "MX")

    assert table.asked == 5  # a once more: it was the oldest when d came
