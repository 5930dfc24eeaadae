"""The hosts of a site: which of their addresses is dialled next, and which never."""

import contextlib
import ipaddress
import random
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Sequence
from typing import TypeVar

import msgspec
from prometheus_client import Gauge

from mtad.base.clock import Clock
from mtad.smtp.results import Lost, Refused, Stage
from mtad.wire.dns import Unresolved
from mtad.wire.resolver import SMTP_PORT, Resolver

# A site with many dead addresses must not hold a place for minutes (Postfix: smtp_mx_address_limit).
MAX_ADDRESSES = 5

# An address where nobody greeted us is dialled after all others for so long; twice as long
# with each time that it is still so, at most the last.
DEAD_FIRST, DEAD_LONGEST = 60.0, 900.0
# One session looks whether it is back; meanwhile the others go elsewhere.
LOOK = 60.0
MAX_DEAD = 10_000

DEAD = Gauge("mtad_dead_addresses", "Addresses of receiving servers that are dialled last, because nobody answered")

# NAT64 (RFC 6052 section 2.1): behind the prefix stands any IPv4 address, private ones too.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

T = TypeVar("T")


class Target(msgspec.Struct, frozen=True):
    """One address to dial."""

    host: str  # name, or the address again
    address: str
    port: int


class _Dead(msgspec.Struct, frozen=True):
    until: float  # monotonic
    span: float  # for how long it was believed


class Hosts:
    """Orders and remembers for all lanes of a worker; the memory is bounded, and what it holds expires."""

    def __init__(
        self, resolver: Resolver, clock: Clock, *, routed: Collection[str] = (), choice: random.Random | None = None
    ) -> None:
        """`routed` are "host:port" that may be ours or private; `choice` draws among equals."""
        self._resolver = resolver
        self._clock = clock
        self._routed = frozenset(routed)
        self._choice = choice or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._dead: dict[Target, _Dead] = {}
        DEAD.set_function(lambda: len(self._dead))

    async def first(
        self,
        hosts: Sequence[str],
        dial: Callable[[Target], Awaitable[T | Refused | Lost]],
        families: Collection[int] = (4, 6),
    ) -> T | Refused | Lost:
        """What `dial` makes of the first target that greets us; when none of 5 does, what the last one said.

        `hosts` are "10 mx1.example.com:25": by preference, equal ones drawn at each call,
        addresses that were dead lately after all others, only those of `families`.
        """
        failure: Refused | Lost = Lost(Stage.CONNECT, "there is no host to connect to", "")
        tries = 0
        async with contextlib.aclosing(self._targets(hosts, families)) as targets:
            async for target in targets:
                if isinstance(target, Lost):
                    failure = target
                    continue
                opened = await self._tried(target, dial)
                if not isinstance(opened, Refused | Lost):
                    return opened
                failure = opened
                tries += 1
                if tries == MAX_ADDRESSES:
                    break
        return failure

    async def _targets(self, hosts: Sequence[str], families: Collection[int]) -> AsyncGenerator[Target | Lost, None]:
        """What to dial, one after the other; Lost for a host of which there is nothing to dial."""
        dead: list[Target] = []
        for _, _, site in sorted(self._ranked(hosts)):
            host, _, port = site.rpartition(":")
            host, routed = host.strip("[]"), site in self._routed
            try:
                addresses = await self._addresses(host, routed=routed)
            except Unresolved as error:
                yield Lost(Stage.CONNECT, str(error), host)
                continue
            if not routed and is_ours(addresses[0]):
                # This host and those behind it would give us our own mail back (RFC 5321 section 5.1).
                yield Lost(Stage.CONNECT, f"{host} is this machine: its mail would come back to us", host)
                break
            usable = [address for address in addresses if (6 if ":" in address else 4) in families]
            if not usable:
                yield Lost(Stage.CONNECT, f"{host} has no address of a family that the source has", host)
            for address in usable:
                target = Target(host, address, int(port))
                if self._is_dead(target):
                    dead.append(target)
                else:
                    yield target
        for target in dead:
            yield target

    def _ranked(self, hosts: Sequence[str]) -> Iterator[tuple[int, float, str]]:
        for text in hosts:
            preference, _, site = text.partition(" ")
            yield int(preference), self._choice.random(), site

    async def _addresses(self, host: str, *, routed: bool) -> list[str]:
        """The addresses in the preferred order of families, those of one family drawn."""
        found = await self._resolver.addresses(host)
        if not found:
            raise Unresolved(f"{host} has no address")
        if not routed:
            # Anybody can publish an MX that points into our network.
            public = [address for address in found if is_public(address)]
            if not public:
                raise Unresolved(f"{host} has no public address, only {', '.join(found)}")
            found = public
        preferred = ":" in found[0]
        return sorted(found, key=lambda address: ((":" in address) != preferred, self._choice.random()))

    async def _tried(
        self, target: Target, dial: Callable[[Target], Awaitable[T | Refused | Lost]]
    ) -> T | Refused | Lost:
        known = self._dead.get(target)
        if known:
            self._bury(target, _Dead(self._clock.monotonic() + LOOK, known.span))
        opened = await dial(target)
        if isinstance(opened, Lost) and opened.stage in (Stage.CONNECT, Stage.BANNER):
            span = min(known.span * 2, DEAD_LONGEST) if known else DEAD_FIRST
            self._bury(target, _Dead(self._clock.monotonic() + span, span))
        else:
            self._dead.pop(target, None)
        return opened

    def _is_dead(self, target: Target) -> bool:
        known = self._dead.get(target)
        return known is not None and known.until > self._clock.monotonic()

    def _bury(self, target: Target, dead: _Dead) -> None:
        self._dead.pop(target, None)
        if len(self._dead) >= MAX_DEAD:
            del self._dead[next(iter(self._dead))]
        self._dead[target] = dead


def is_public(address: str) -> bool:
    """Whether an address belongs to the Internet and not to a machine, a link or a private network."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None = ipaddress.ip_address(address)
    while isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is None:
            break
        ip = inner
    return ip is not None and ip.is_global and not ip.is_multicast


def is_ours(address: str) -> bool:
    """Whether this machine has an address; asks the kernel and sends nothing.

    Not by bind: where net.ipv4.ip_nonlocal_bind is set every address can be bound.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, SMTP_PORT))
        except OSError:
            return False  # no route there
        return bool(probe.getsockname()[0] == address)
