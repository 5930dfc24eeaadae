"""What the tests of sockets share. Each runs on both event loops: one is used in production, one by others."""

import asyncio
import datetime as dt
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mtad.base.clock import Clock, SystemClock
from mtad.smtp.results import Stage
from mtad.wire.dns import Records
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer
from tests.wire.peer import Peer


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's context with a self-signed certificate, as many receivers have."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer.test")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path: Path = tmp_path_factory.mktemp("tls") / "peer.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def no_dns(name: str, kind: str) -> Records:
    raise AssertionError(f"nobody should ask DNS for {kind} {name}")


DialerTo = Callable[..., Dialer]


@pytest.fixture
def dialer_to() -> DialerTo:
    """Makes a dialler that may go to some peers; `hang` is the stage where it has little patience."""

    def make(*peers: Peer, hang: Stage | None = None, clock: Clock | None = None) -> Dialer:
        clock = clock or SystemClock()
        routed = [f"127.0.0.1:{peer.port}" for peer in peers]
        timeouts = {hang: 0.05} if hang else None
        return Dialer("me.test", Resolver(clock, no_dns), clock, routed=routed, timeouts=timeouts)

    return make
