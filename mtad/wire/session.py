"""Sessions with receiving servers, and the dialler that opens them.

A session is used for many messages, one after the other. Unless its Terms say otherwise
STARTTLS is taken when offered and the certificate is not verified: an active attacker
could as well remove the offer, and refusing to deliver protects nobody (RFC 7435).
"""

import asyncio
import ipaddress
import os
import random
import ssl
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Self, assert_never

import msgspec

from mtad.base.clock import Clock
from mtad.base.config import Config
from mtad.base.endpoint import host_port
from mtad.smtp import encode
from mtad.smtp.client import Client
from mtad.smtp.results import Lost, Refused, Result, Stage, TooLate
from mtad.wire.connection import Connection, Encryption
from mtad.wire.egress import ANY, CannotBindError, Egress, Unbound, connect
from mtad.wire.hosts import Hosts, Target
from mtad.wire.resolver import Resolver
from mtad.wire.terms import Terms, Tls
from mtad.wire.trace import Trace

MAX_BROKEN_TLS = 10_000

Login = tuple[str, str]
"""Name and password."""


class Session:
    """An open, greeted connection. One message at a time."""

    def __init__(self, client: Client, connection: Connection) -> None:
        self._client = client
        self._connection = connection
        self.deliveries = 0  # messages offered, whatever came of them

    @property
    def host(self) -> str:
        """Name, address and port of the server, as in results."""
        return self._client.host

    @property
    def number(self) -> int:
        """Counted up in each worker."""
        return self._client.number

    @property
    def local(self) -> str:
        """The address of ours that it leaves by."""
        return self._connection.local

    @property
    def usable(self) -> bool:
        """False after 421, an error, or the end of the connection, as far as the loop has heard."""
        return self._client.usable

    @property
    def tls(self) -> bool:
        """Whether what is sent is encrypted."""
        return self._client.tls

    @property
    def encryption(self) -> Encryption:
        """Version of TLS, cipher and whom a certificate that was verified names; empty in clear."""
        return self._connection.encryption

    @property
    def data_at(self) -> float:
        """When DATA was last written, on the clock's monotonic scale."""
        return self._client.data_at

    def alive(self) -> bool:
        """`usable`, and the kernel holds no sign of a server that closed while we were idle."""
        if self._client.usable and self._connection.silent():
            return True
        self._connection.abort()
        return False

    async def send(
        self, return_path: str, recipient: str, message: bytes, *, data_by: float, safe_from: int | None = None
    ) -> Result:
        """Offer one message: RFC 5322, CRLF, dots not stuffed.

        `data_by` is on the clock's monotonic scale: DATA is written before it or not at
        all (TooLate). ValueError, with nothing written, for a message or an address that
        must not go on the wire; from octet `safe_from` on the message is not looked at for
        that (encode.data). When cancelled the connection is closed at once; a final
        dot that was written before is in doubt then.
        """
        client = self._client
        if not self.alive():
            return TooLate(client.host)
        client.begin(return_path, recipient, message, data_by, safe_from)
        self.deliveries += 1
        await self._connection.settled()
        result = client.take_result()
        if result is None:
            raise RuntimeError(f"{client.host}: the dialogue ended without a result")
        return result

    async def close(self) -> None:
        """QUIT where the server still listens, then close."""
        try:
            if self.alive():
                self._client.quit()
                await self._connection.settled()
        finally:
            self._connection.abort()


class Dialer:
    """Opens sessions; remembers whose TLS is broken."""

    def __init__(
        self,
        hostname: str,
        resolver: Resolver,
        clock: Clock,
        *,
        routed: Collection[str] = (),
        terms: Terms | None = None,
        choice: random.Random | None = None,
        trace: Trace | None = None,
        logins: Mapping[str, Login] = {},
    ) -> None:
        """`hostname` is what EHLO says; `routed` are "host:port" that may be private addresses, `logins` ours there.

        `terms` are those of `open` without any, `choice` draws among hosts of equal preference.
        `trace` knows who wants to see dialogues. ValueError for a hostname that cannot be said.
        """
        self._trace = trace or Trace(clock)
        encode.ehlo(hostname)  # now, and not when a server waits for it
        self._hostname = hostname
        self._logins = logins
        self._clock = clock
        self._hosts = Hosts(resolver, clock, routed=routed, choice=choice)
        self._terms = terms or Terms()
        self._broken_tls: dict[str, float] = {}
        self._unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._unverified.check_hostname = False
        self._unverified.verify_mode = ssl.CERT_NONE
        self._verified: ssl.SSLContext | None = None

    @classmethod
    def from_config(
        cls, config: Config, resolver: Resolver, clock: Clock, logins: Mapping[str, Login], trace: Trace | None = None
    ) -> Self:
        """As the configuration says."""
        routed = [route.site for route in config.route]
        return cls(config.hostname, resolver, clock, routed=routed, logins=logins, trace=trace)

    async def _trusting(self) -> ssl.SSLContext:
        """For a server that has to prove who it is; all authorities of the machine take 20 ms to read, once."""
        if self._verified is None:
            self._verified = await asyncio.to_thread(ssl.create_default_context)
        return self._verified

    async def open(
        self, hosts: Sequence[str], terms: Terms | None = None, egress: Egress = ANY
    ) -> Session | Refused | Lost | Unbound:
        """A session with the first host that greets us (Hosts.first); when none does: what the last one said."""
        return await self._hosts.first(hosts, partial(self._dial, terms or self._terms, egress), egress.families)

    async def _dial(self, terms: Terms, egress: Egress, target: Target) -> Session | Refused | Lost | Unbound:
        if terms.tls is Tls.OPPORTUNISTIC_INSECURE and self._login(target):
            terms = msgspec.structs.replace(terms, tls=Tls.REQUIRED)  # a password is for nobody else
        match terms.tls:
            case Tls.DISABLED:
                return await self._converse(target, terms, egress, try_tls=False)
            case Tls.OPPORTUNISTIC_INSECURE:
                return await self._dial_as_it_works(terms, egress, target)
            case Tls.REQUIRED | Tls.REQUIRED_INSECURE | Tls.MTA_STS:
                return await self._dial_encrypted(terms, egress, target)
            case _:
                assert_never(terms.tls)

    def _login(self, target: Target) -> Login | None:
        return self._logins.get(host_port(target.host, target.port)) if self._logins else None

    async def _dial_encrypted(self, terms: Terms, egress: Egress, target: Target) -> Session | Refused | Lost | Unbound:
        policy = terms.tls is Tls.MTA_STS
        opened = await self._converse(target, terms, egress, try_tls=True)
        if isinstance(opened, Session) and not opened.tls:
            await opened.close()
            who = "the MTA-STS policy of the domain" if policy else "enable_tls"
            return Lost(Stage.STARTTLS, f"the server offers no TLS, and {who} requires it", opened.host)
        if policy and isinstance(opened, Lost) and opened.stage is Stage.TLS:
            return Lost(Stage.TLS, f"{opened.why}, and the MTA-STS policy of the domain requires it", opened.host)
        return opened

    async def _dial_as_it_works(
        self, terms: Terms, egress: Egress, target: Target
    ) -> Session | Refused | Lost | Unbound:
        host = target.host
        try_tls = self._clock.monotonic() >= self._broken_tls.get(host, 0.0)
        opened = await self._converse(target, terms, egress, try_tls=try_tls)
        if try_tls and isinstance(opened, Lost) and opened.stage in (Stage.STARTTLS, Stage.TLS):
            if len(self._broken_tls) >= MAX_BROKEN_TLS:
                self._broken_tls.clear()
            self._broken_tls[host] = self._clock.monotonic() + terms.remember_broken_tls
            opened = await self._converse(target, terms, egress, try_tls=False)
        return opened

    async def _converse(
        self, target: Target, terms: Terms, egress: Egress, *, try_tls: bool
    ) -> Session | Refused | Lost | Unbound:
        """Connect and get through the greeting and, where offered, TLS."""
        host, address, port = target.host, target.address, target.port
        name, login = egress.hostname or self._hostname, self._login(target)
        client = self._trace.client(
            name, f"{host} [{address}]:{port}", try_tls=try_tls, login=login, ignored=terms.ignored
        )
        timeouts = terms.patience()
        context = await self._trusting() if terms.tls.verified else self._unverified
        connection = Connection(client, self._clock, timeouts)
        limit = timeouts[Stage.CONNECT]
        try:
            async with asyncio.timeout(limit):
                await connect(connection, address, port, egress.local(address))
        except CannotBindError as error:
            return Unbound(str(error))
        except TimeoutError:
            return Lost(Stage.CONNECT, f"no connection within {limit:g} s", client.host)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            return Lost(Stage.CONNECT, f"no connection: {why}", client.host)
        await connection.settled()
        if client.wants_tls:
            server = host if terms.tls.verified or not _is_address(host) else None
            await connection.start_tls(context, server)
            await connection.settled()
        result = client.take_result()
        if result is None and client.usable:
            return Session(client, connection)
        connection.abort()
        if isinstance(result, Refused | Lost):
            return result
        return Lost(Stage.EHLO, "the server closed the connection after its greeting", client.host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
