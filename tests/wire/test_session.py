"""A session carries many messages, and every way in which it can end has the right result."""

import asyncio
import time

import pytest

from mtad.base.clock import SystemClock
from mtad.base.shape import Extension, Shape
from mtad.smtp.results import Accepted, Lost, Refused, Stage, TooLate
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer, Session
from mtad.wire.terms import Terms, terms_of
from tests.wire.conftest import BIG, MESSAGE, DialerTo, no_dns, opened, send
from tests.wire.peer import EXTENSIONS, Peer

OVER_LONG = "250 " + "x" * 2000
# What a server may do, and what remains: a code, or None where it says nothing usable.
MISDEEDS = {
    "450 4.0.0 later": 450,
    "550 5.0.0 never": 550,
    "421 4.0.0 bye CLOSE": 421,
    "CLOSE": None,
    "RESET": None,
    "HANG": None,
    "garbage": None,
    OVER_LONG: None,
}


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelined", "step by step"])
async def test_a_session_carries_many_messages(dialer_to: DialerTo, extensions: tuple[str, ...]) -> None:
    async with Peer(extensions=extensions) as peer:
        session = await opened(dialer_to, peer)
        results = [await send(session) for _ in range(3)]
        await session.close()

    assert [type(result) for result in results] == [Accepted] * 3
    assert peer.texts == [MESSAGE] * 3
    assert peer.connections == 1
    assert session.deliveries == 3
    assert "RSET" not in peer.commands
    assert peer.commands[-1] == "QUIT"


async def test_acceptance_names_the_server_and_the_times(dialer_to: DialerTo) -> None:
    async with Peer() as peer:
        session = await opened(dialer_to, peer)
        result = await send(session)
        await session.close()

    assert isinstance(result, Accepted)
    assert result.text == "250 2.0.0 queued as 1"
    assert result.host == f"127.0.0.1 [127.0.0.1]:{peer.port}"
    assert result.dot_at <= result.at


@pytest.mark.parametrize("misdeed", MISDEEDS, ids=lambda text: text[:8])
@pytest.mark.parametrize("stage", [Stage.BANNER, Stage.EHLO])
async def test_a_session_that_does_not_come_about(dialer_to: DialerTo, stage: Stage, misdeed: str) -> None:
    code = MISDEEDS[misdeed]
    async with Peer({stage.name: [misdeed], "HELO": [misdeed]}) as peer:
        result = await dialer_to(peer, hang=stage if misdeed == "HANG" else None).open([peer.host])
        await asyncio.wait_for(peer.gone.wait(), 30) if misdeed != "HANG" else None

    if code is None:
        assert isinstance(result, Lost)
    else:
        assert isinstance(result, Refused)
        assert result.code == code
    assert result.stage is stage
    assert peer.connections == 1


async def test_a_server_without_ehlo_gets_helo(dialer_to: DialerTo) -> None:
    async with Peer({"EHLO": ["502 5.5.1 what?"]}) as peer:
        session = await opened(dialer_to, peer)
        result = await send(session)
        await session.close()

    assert isinstance(result, Accepted)
    assert peer.commands[:3] == ["EHLO me.test", "HELO me.test", "MAIL FROM:<b@us.test>"]


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelined", "step by step"])
@pytest.mark.parametrize("misdeed", MISDEEDS, ids=lambda text: text[:8])
@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
async def test_a_message_that_is_not_accepted(
    dialer_to: DialerTo, stage: Stage, misdeed: str, extensions: tuple[str, ...]
) -> None:
    code = MISDEEDS[misdeed]
    async with Peer({stage.name: [misdeed]}, extensions=extensions) as peer:
        session = await opened(dialer_to, peer, hang=stage if misdeed == "HANG" else None)
        result = await send(session)
        if code in (450, 550):
            assert session.alive()
            assert isinstance(await send(session), Accepted)
            assert peer.connections == 1
            assert peer.commands.count("RSET") == (0 if stage is Stage.DOT else 1)
        else:
            assert not session.usable
            assert not session.alive()
        await session.close()

    if code is None:
        assert isinstance(result, Lost)
    else:
        assert isinstance(result, Refused)
        assert result.code == code
    if misdeed == "RESET":  # it overtakes the answers before it
        assert (result.stage is Stage.DOT) == (stage is Stage.DOT)
    else:
        assert result.stage is stage


async def test_where_chunking_is_offered_messages_go_as_they_are(dialer_to: DialerTo) -> None:
    async with Peer({"RCPT": ["250 fine", "550 5.1.1 nobody"]}, extensions=("PIPELINING", "CHUNKING")) as peer:
        session = await opened(dialer_to, peer)
        results = [await send(session) for _ in range(4)]
        results.append(await send(session, BIG))
        await session.close()

    assert [type(result) for result in results] == [Accepted, Refused, Accepted, Accepted, Accepted]
    assert peer.texts == [MESSAGE] * 3 + [BIG]
    assert peer.connections == 1
    assert peer.commands.count("RSET") == 1


@pytest.mark.parametrize("misdeed", MISDEEDS, ids=lambda text: text[:8])
async def test_a_message_that_is_cut_short(dialer_to: DialerTo, misdeed: str) -> None:
    """Nothing is in doubt while the final dot is not written."""
    async with Peer({"BODY": [misdeed]}, extensions=("PIPELINING",)) as peer:
        session = await opened(dialer_to, peer, hang=Stage.BODY if misdeed == "HANG" else None)
        result = await send(session, BIG)
        await session.close()

    # A reset that follows the answer may overtake it.
    assert isinstance(result, Lost | Refused)
    assert isinstance(result, Lost) or result.code == MISDEEDS[misdeed]
    assert result.stage is Stage.BODY
    assert not session.usable
    assert peer.messages == []


async def test_a_message_larger_than_all_buffers_arrives_whole(dialer_to: DialerTo) -> None:
    async with Peer(extensions=("PIPELINING",)) as peer:
        session = await opened(dialer_to, peer)
        results = [await send(session, BIG), await send(session)]
        await session.close()

    assert [type(result) for result in results] == [Accepted, Accepted]
    assert peer.texts == [BIG, MESSAGE]


@pytest.mark.parametrize("stage", ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
async def test_answers_octet_by_octet_are_answers(dialer_to: DialerTo, stage: str) -> None:
    polite = {"BANNER": "220 hi", "EHLO": "250-peer\n250 PIPELINING", "DATA": "354 go"}.get(stage, "250 fine")
    async with Peer({stage: [f"{polite} DRIP"]}) as peer:
        session = await opened(dialer_to, peer)
        result = await send(session)
        await session.close()

    assert isinstance(result, Accepted)


async def test_a_server_that_trickles_octets_wins_no_time(dialer_to: DialerTo) -> None:
    """Octets come at half the patience; only a whole reply would renew it."""
    async with Peer({"MAIL": ["250- HANG"]}) as peer:
        session = await opened(dialer_to, peer, hang=Stage.MAIL)
        loop = asyncio.get_running_loop()

        def trickle() -> None:
            peer.speak("250-still thinking")
            handles.append(loop.call_later(0.025, trickle))

        handles = [loop.call_later(0.025, trickle)]
        result = await asyncio.wait_for(send(session), 30)
        handles[-1].cancel()

    assert isinstance(result, Lost)
    assert result.why == "timed out after 0.05 s while waiting for the answer to MAIL"


async def test_a_wait_is_as_long_as_its_stage_allows_whatever_others_do() -> None:
    async with Peer({"DOT": ["HANG"]}) as peer:
        clock = SystemClock()
        terms = Terms(timeouts={Stage.QUIT: 0.01, Stage.DOT: 0.1})
        dialer = Dialer("me.test", Resolver(clock, no_dns), clock, routed=[peer.host[2:]], terms=terms)
        session = await dialer.open([peer.host])
        assert isinstance(session, Session)
        begun = clock.monotonic()
        result = await asyncio.wait_for(send(session), 30)
        waited = clock.monotonic() - begun

    assert result == Lost(
        Stage.DOT, "timed out after 0.1 s while waiting for the answer to the final dot", session.host
    )
    assert waited >= 0.09  # the loop's clock ticks in milliseconds


async def test_354_for_a_refused_recipient_gets_a_lone_dot(dialer_to: DialerTo) -> None:
    script = {"RCPT": ["550 5.1.1 nobody"], "DATA": ["354 go on"], "DOT": ["554 5.5.1 no recipients"]}
    async with Peer(script) as peer:
        session = await opened(dialer_to, peer)
        result = await send(session)
        again = await send(session)
        await session.close()

    assert isinstance(result, Refused)
    assert (result.stage, result.code) == (Stage.RCPT, 550)
    assert isinstance(again, Accepted)
    assert peer.texts == [MESSAGE]


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelined", "step by step"])
async def test_data_is_not_written_after_its_time(dialer_to: DialerTo, extensions: tuple[str, ...]) -> None:
    async with Peer(extensions=extensions) as peer:
        session = await opened(dialer_to, peer)
        late = await session.send("b@us.test", "a@x.test", MESSAGE, data_by=time.monotonic() - 0.001)
        result = await send(session)
        await session.close()

    assert isinstance(late, TooLate)
    assert isinstance(result, Accepted)
    assert peer.commands.count("DATA") == 1
    assert peer.texts == [MESSAGE]


async def test_a_session_closed_while_idle_is_no_attempt(dialer_to: DialerTo) -> None:
    async with Peer() as peer:
        session = await opened(dialer_to, peer)
        assert session.alive()
        peer.hang_up()

        assert not session.alive()
        assert isinstance(await send(session), TooLate)
        assert peer.commands == ["EHLO me.test"]


async def test_an_idle_session_that_is_told_421_is_over(dialer_to: DialerTo) -> None:
    async with Peer() as peer:
        session = await opened(dialer_to, peer)
        peer.speak("421 4.4.2 idle too long")
        await asyncio.wait_for(peer.gone.wait(), 30)

        assert not session.usable
        assert not session.alive()


@pytest.mark.parametrize("message", [b"bare\nline\r\n", b"nul\0\r\n", b""])
async def test_a_message_that_must_not_go_on_the_wire_costs_no_session(dialer_to: DialerTo, message: bytes) -> None:
    async with Peer() as peer:
        session = await opened(dialer_to, peer)
        with pytest.raises(ValueError, match=r"bare|NUL|empty"):
            await send(session, message)
        result = await send(session)
        await session.close()

    assert isinstance(result, Accepted)
    assert peer.texts == [MESSAGE]


@pytest.mark.parametrize("stage", ["RCPT", "DOT"])
async def test_a_cancelled_message_leaves_no_connection(dialer_to: DialerTo, stage: str) -> None:
    async with Peer({stage: ["HANG"]}) as peer:
        session = await opened(dialer_to, peer)
        sending = asyncio.create_task(send(session))
        await asyncio.wait_for(peer.hanging.wait(), 30)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        assert not session.usable
        assert not session.alive()


async def test_a_cancelled_dial_leaves_no_connection(dialer_to: DialerTo) -> None:
    async with Peer({"BANNER": ["HANG"]}) as peer:
        dialling = asyncio.create_task(dialer_to(peer).open([peer.host]))
        await asyncio.wait_for(peer.hanging.wait(), 30)
        dialling.cancel()

        with pytest.raises(asyncio.CancelledError):
            await dialling


async def test_a_server_is_spoken_to_without_what_is_ignored(dialer_to: DialerTo) -> None:
    heard = []
    some: tuple[Extension, ...] = ("CHUNKING", "SIZE")
    for ignored in ((), some):
        async with Peer(extensions=("CHUNKING", "SIZE 1000000")) as peer:
            session = await dialer_to(peer).open([peer.host], terms_of(Shape(ignore_extensions=ignored)))
            assert isinstance(session, Session)
            await send(session)
            await session.close()
            heard.append(" ".join(peer.commands))

    assert ["BDAT" in said and "SIZE=" in said for said in heard] == [True, False]
    assert " DATA " in heard[1]
