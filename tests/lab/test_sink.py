"""The sink does what the address says, over a real socket."""

import asyncio
import smtplib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from mtad.lab.sink import Received, Sink, behaviour_of
from tests.clock import ManualClock

MESSAGE = "Message-ID: <1@x.test>\r\nSubject: a\r\n longer one\r\n\r\n.dot\r\nbody\r\n"


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as made:
        yield made


async def mail(sink: Sink, to: str) -> int:
    """The code of the last answer; 0 when the connection was closed instead."""

    def talk() -> int:
        with smtplib.SMTP("127.0.0.1", sink.port, local_hostname="client.test", timeout=10) as client:
            try:
                client.sendmail("a@from.test", [to], MESSAGE.encode())
            except smtplib.SMTPRecipientsRefused as refused:
                return next(iter(refused.recipients.values()))[0]
            except smtplib.SMTPDataError as refused:
                return refused.smtp_code
            except smtplib.SMTPServerDisconnected:
                return 0
            return 250

    return await asyncio.to_thread(talk)


async def test_any_other_address_is_accepted_and_kept_byte_for_byte(sink: Sink) -> None:
    code = await mail(sink, "ada@x.test")

    (copy,) = sink.messages
    assert code == 250
    assert (copy.sender, copy.recipient, copy.message) == ("a@from.test", "ada@x.test", MESSAGE.encode())
    assert copy.answered
    assert copy.port == sink.port
    assert not sink.attempts, "whoever sends to millions costs no memory"


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("unknown-ada@x.test", 550),
        ("UNKNOWN-ada@x.test", 550),
        ("full-ada@x.test", 452),
        ("defer-ada@x.test", 451),
        ("spam-ada@x.test", 554),
    ],
)
async def test_an_address_that_refuses_is_refused_every_time_and_nothing_is_kept(
    sink: Sink, address: str, code: int
) -> None:
    codes = [await mail(sink, address) for _ in range(3)]

    assert codes == [code] * 3
    assert sink.messages == []
    assert sink.refused.total() == 3


async def test_defer2_is_put_off_twice_and_then_accepted(sink: Sink) -> None:
    codes = [await mail(sink, "defer2-ada@x.test") for _ in range(3)]

    assert codes == [451, 451, 250]
    assert len(sink.messages) == 1


async def test_drop_takes_the_copy_and_answers_nothing(sink: Sink) -> None:
    codes = [await mail(sink, "drop1-ada@x.test") for _ in range(2)]

    assert codes == [0, 250]
    assert [copy.answered for copy in sink.messages] == [False, True]
    assert sink.copies() == {("drop1-ada@x.test", "<1@x.test>"): 2}


async def test_slow_is_answered_only_after_its_time() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    async with Sink(clock=clock) as sink:
        talking = asyncio.ensure_future(mail(sink, "slow-ada@x.test"))
        while not clock._sleepers:  # noqa: ASYNC110 - the clock does not tell who sleeps
            await asyncio.sleep(0)
        early = talking.done()
        await clock.advance(1.0)
        code = await talking

    assert not early
    assert code == 250


async def test_commands_may_come_in_one_write(sink: Sink) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sink.port)
    writer.write(b"EHLO client.test\r\n")
    banner = await reader.readline()
    extensions = b""
    while not extensions.rpartition(b"\r\n250 ")[1]:
        extensions += await reader.readline()
    writer.write(b"MAIL FROM:<a@from.test> SIZE=1\r\nRCPT TO:<ada@x.test>\r\nDATA\r\n")
    answers = [(await reader.readline())[:3] for _ in range(3)]
    writer.close()
    await writer.wait_closed()

    assert banner.startswith(b"220 ")
    assert b"250-PIPELINING" in extensions
    assert answers == [b"250", b"250", b"354"]


async def test_each_port_is_a_site_of_its_own() -> None:
    async with Sink(ports=2) as sink:
        first, second = sink.ports
        await mail(sink, "ada@x.test")

    assert first != second
    assert [copy.port for copy in sink.messages] == [first]
    assert sink.sessions == 1


async def test_wait_for_returns_when_so_many_have_come(sink: Sink) -> None:
    waiting = asyncio.ensure_future(sink.wait_for(2))
    await mail(sink, "ada@x.test")
    before = waiting.done()
    await mail(sink, "bob@x.test")
    await asyncio.wait_for(waiting, 10)

    assert not before


async def test_arrived_is_called_before_the_answer() -> None:
    seen: list[Received] = []
    async with Sink(arrived=seen.append) as sink:
        await mail(sink, "ada@x.test")

    assert seen == sink.messages


def test_a_header_is_unfolded_and_its_name_is_not_case_sensitive() -> None:
    copy = Received("", "", MESSAGE.encode(), datetime(2026, 1, 1, tzinfo=UTC), answered=True, port=0, session=0)

    assert copy.header("subject") == "a longer one"
    assert copy.header("To") == ""


def test_the_number_after_the_prefix_is_how_many_attempts_it_lasts() -> None:
    lasting = [bool(behaviour_of("full3-ada@x.test", attempt).at_rcpt) for attempt in (1, 3, 4)]

    assert lasting == [True, True, False]
    assert not behaviour_of("fullofjoy@x.test", 1).at_rcpt
