"""TLS and logins: what is offered, what is wanted, what breaks."""

import base64
import ssl
from datetime import UTC, datetime

import pytest

from mtad.base.clock import SystemClock
from mtad.smtp.results import Accepted, Lost, Refused, Stage
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer, Session
from mtad.wire.terms import Terms, Tls
from mtad.wire.trace import Look, Trace
from tests.clock import ManualClock
from tests.wire.conftest import BIG, DialerTo, no_dns, opened, send
from tests.wire.peer import EXTENSIONS, Peer


async def test_starttls_is_taken_when_offered_whatever_the_certificate(
    dialer_to: DialerTo, tls: ssl.SSLContext
) -> None:
    async with Peer(tls=tls) as peer:
        session = await opened(dialer_to, peer)
        results = [await send(session), await send(session, BIG[:2_000_000] + b"\r\n")]
        encrypted = session.tls
        await session.close()

    assert encrypted
    assert [type(result) for result in results] == [Accepted, Refused]  # the second is over SIZE
    assert peer.encrypted == [True]
    assert peer.connections == 1
    assert peer.commands[:3] == ["EHLO me.test", "STARTTLS", "EHLO me.test"]


async def test_a_large_message_goes_encrypted_and_whole(dialer_to: DialerTo, tls: ssl.SSLContext) -> None:
    async with Peer(tls=tls, extensions=("PIPELINING",)) as peer:
        session = await opened(dialer_to, peer)
        result = await send(session, BIG)
        await session.close()

    assert isinstance(result, Accepted)
    assert peer.texts == [BIG]


async def test_what_was_said_in_clear_before_tls_is_forgotten(dialer_to: DialerTo, tls: ssl.SSLContext) -> None:
    async with Peer({"STARTTLS": ["220 go\n250-injected\n250 SIZE 1"]}, tls=tls) as peer:
        session = await opened(dialer_to, peer)
        result = await send(session)
        await session.close()

    assert isinstance(result, Accepted)
    assert peer.encrypted == [True]


@pytest.mark.parametrize("answer", ["454 4.7.0 no certificate", "502 5.5.1 what?"])
async def test_a_server_that_refuses_starttls_gets_mail_in_clear(dialer_to: DialerTo, answer: str) -> None:
    async with Peer({"STARTTLS": [answer]}, extensions=(*EXTENSIONS, "STARTTLS")) as peer:
        session = await opened(dialer_to, peer)
        result = await send(session)
        await session.close()

    assert isinstance(result, Accepted)
    assert peer.connections == 1


@pytest.mark.parametrize(
    ("answer", "hang"),
    [
        ("220 go", None),  # then it does not speak TLS
        ("220 go CLOSE", None),
        ("220 go RESET", None),
        ("220 go HANG", Stage.TLS),
        ("CLOSE", None),
        ("garbage", None),
        ("HANG", Stage.STARTTLS),
    ],
)
async def test_broken_tls_is_avoided_from_then_on(dialer_to: DialerTo, answer: str, hang: Stage | None) -> None:
    async with Peer({"STARTTLS": [answer]}, extensions=(*EXTENSIONS, "STARTTLS")) as peer:
        dialer = dialer_to(peer, hang=hang)
        first = await dialer.open([peer.host])
        assert isinstance(first, Session), first
        results = [await send(first)]
        again = await dialer.open([peer.host])
        assert isinstance(again, Session)
        results.append(await send(again))
        await first.close()
        await again.close()

    assert [type(result) for result in results] == [Accepted, Accepted]
    assert peer.connections == 3  # one broken, then in clear at once
    assert peer.commands.count("STARTTLS") == 1
    assert not again.tls


async def test_broken_tls_is_looked_at_again_after_a_while(dialer_to: DialerTo, tls: ssl.SSLContext) -> None:
    clock = ManualClock(datetime(2026, 1, 2, tzinfo=UTC))
    async with Peer({"STARTTLS": ["garbage"]}, tls=tls) as peer:
        dialer = dialer_to(peer, clock=clock)
        encrypted = []
        for seconds in (0, Terms().remember_broken_tls - 1, 1):
            await clock.advance(seconds)
            session = await dialer.open([peer.host])
            assert isinstance(session, Session)
            encrypted.append(session.tls)
            await session.close()

    assert encrypted == [False, False, True]


@pytest.mark.parametrize(
    ("offers", "wanted", "encrypted"),
    [
        (True, Tls.OPPORTUNISTIC_INSECURE, True),
        (True, Tls.REQUIRED_INSECURE, True),
        (True, Tls.REQUIRED, None),  # the certificate is its own and has expired
        (True, Tls.DISABLED, False),
        (False, Tls.OPPORTUNISTIC_INSECURE, False),
        (False, Tls.REQUIRED_INSECURE, None),
        (False, Tls.REQUIRED, None),
        (False, Tls.DISABLED, False),
    ],
)
async def test_what_is_required_of_tls_is_had_or_there_is_no_session(
    dialer_to: DialerTo, tls: ssl.SSLContext, offers: bool, wanted: Tls, encrypted: bool | None
) -> None:
    async with Peer(tls=tls if offers else None) as peer:
        opened = await dialer_to(peer).open([peer.host], Terms(tls=wanted))
        if isinstance(opened, Session):
            await opened.close()

    if encrypted is None:
        assert isinstance(opened, Lost)
        assert opened.stage in (Stage.STARTTLS, Stage.TLS)
        assert peer.connections == 1, "and not tried in clear"
    else:
        assert isinstance(opened, Session)
        assert opened.tls is encrypted


@pytest.mark.parametrize(
    ("wanted", "said"), [(Tls.OPPORTUNISTIC_INSECURE, 0), (Tls.REQUIRED_INSECURE, 1), (Tls.DISABLED, 1)]
)
async def test_a_password_is_for_a_server_that_proves_who_it_is_unless_the_route_says_less(
    tls: ssl.SSLContext, wanted: Tls, said: int
) -> None:
    clock, look = SystemClock(), Look(frozenset(), "")
    trace = Trace(clock)
    async with Peer({"AUTH": ["235 2.7.0 welcome"]}, extensions=("AUTH PLAIN",), tls=tls) as peer:
        place = f"127.0.0.1:{peer.port}"
        dialer = Dialer(
            "me.test", Resolver(clock, no_dns), clock, routed=[place], trace=trace, logins={place: ("me", "secret")}
        )
        with trace.looking(look):
            opened = await dialer.open([peer.host], Terms(tls=wanted))
        if isinstance(opened, Session):
            await opened.close()

    secret = base64.b64encode(b"\0me\0secret").decode()
    assert isinstance(opened, Session) is bool(said)
    assert peer.commands.count(f"AUTH PLAIN {secret}") == said
    lines, _ = await look.read()
    assert not any(secret in line.text for line in lines)
    assert [line.text for line in lines].count("AUTH PLAIN …") == said
