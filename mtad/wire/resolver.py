"""Where mail for a domain goes: route, MX, or the domain itself (RFC 5321 section 5.1).

A DNS server that does not answer says nothing about the domain: that is
Unresolved, the mail waits. Only an answer can be NoMail.
"""

import hashlib
import ipaddress
from collections.abc import Awaitable, Callable, Sequence

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver
import msgspec

from mtad.base.clock import Clock
from mtad.base.config import Config, Route

SMTP_PORT = 25

# Answers are kept as long as they say, within these bounds: below, a busy domain would
# be asked for with every session; above, a move would go unnoticed for days.
LEAST_TTL = 30.0
MOST_TTL = 3600.0
NEGATIVE_TTL = 300.0  # RFC 2308 section 5 allows up to 3 hours
MAX_CACHED = 50_000

LOOKUP_SECONDS = 15.0

# A site's name stands in logs and metrics; MX sets of dozens of hosts exist.
MAX_NAME = 200


class Unresolved(Exception):
    """No answer, or none that helps now: try again later."""


class Records(msgspec.Struct, frozen=True):
    """An answer: texts of the records as in a zone file. `exists` False is NXDOMAIN."""

    texts: Sequence[str]
    ttl: float
    exists: bool = True


class Site(msgspec.Struct, frozen=True):
    """Where a domain's mail goes: `hosts` like "10 mx1.example.com:25", by preference.

    `name` is the same for all domains with the same set of hosts.
    """

    name: str
    hosts: list[str]


class NoMail(msgspec.Struct, frozen=True):
    """The domain takes no mail. `permanent` when it does not exist or says so itself (RFC 7505)."""

    why: str
    permanent: bool


Lookup = Callable[[str, str], Awaitable[Records]]
"""(name, type) → what DNS says; raises Unresolved."""


class Resolver:
    """Answers from a cache that honours TTL; asks through `lookup`."""

    def __init__(self, clock: Clock, lookup: Lookup | None = None) -> None:
        self._clock = clock
        self._lookup = lookup or DnsLookup().records
        self._cache: dict[tuple[str, str], tuple[float, Records]] = {}

    async def site_of(self, domain: str, config: Config) -> Site | NoMail:
        """Where mail for a domain (ASCII, lower case) goes; a route before DNS. Raises Unresolved."""
        if route := config.route_for(domain):
            host = routed_host(route)
            return Site(host, [f"0 {host}"])
        answer = await self._records(domain, "MX")
        if not answer.exists:
            return NoMail(f"the domain {domain} does not exist", permanent=True)
        if not answer.texts:
            return await self._implicit(domain)
        ranked = sorted({_mx(text) for text in answer.texts})
        usable = [(preference, host) for preference, host in ranked if host]
        if not usable:
            return NoMail(f"the domain {domain} says that it takes no mail (null MX)", permanent=True)
        return Site(_name([host for _, host in usable]), [f"{rank} {host}:{SMTP_PORT}" for rank, host in usable])

    async def _implicit(self, domain: str) -> Site | NoMail:
        if await self.addresses(domain):
            return Site(_name([domain]), [f"0 {domain}:{SMTP_PORT}"])
        return NoMail(f"the domain {domain} has neither MX nor address", permanent=False)

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host, IPv4 first; none when it has none. Raises Unresolved.

        IPv4 first, because large receivers ask more of senders that come by IPv6.
        """
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        found: list[str] = []
        unresolved: Unresolved | None = None
        for kind in ("A", "AAAA"):
            try:
                found += (await self._records(host, kind)).texts
            except Unresolved as error:
                unresolved = error
        if unresolved and not found:
            raise unresolved
        return found

    async def _records(self, name: str, kind: str) -> Records:
        now = self._clock.monotonic()
        cached = self._cache.get((name, kind))
        if cached and cached[0] > now:
            return cached[1]
        records = await self._lookup(name, kind)
        ttl = min(max(records.ttl, LEAST_TTL), MOST_TTL) if records.texts else NEGATIVE_TTL
        if len(self._cache) >= MAX_CACHED:
            self._cache = {key: entry for key, entry in self._cache.items() if entry[0] > now}
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
        self._cache[name, kind] = (now + ttl, records)
        return records


class DnsLookup:
    """Asks the name servers of this machine (/etc/resolv.conf)."""

    def __init__(self) -> None:
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def records(self, name: str, kind: str) -> Records:
        """What DNS says; Unresolved when it does not say."""
        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver()
            answer = await self._resolver.resolve(
                dns.name.from_text(name), kind, raise_on_no_answer=False, search=False, lifetime=LOOKUP_SECONDS
            )
        except dns.resolver.NXDOMAIN:
            return Records((), 0.0, exists=False)
        except (dns.exception.DNSException, OSError) as error:
            raise Unresolved(f"DNS {kind} {name}: {' '.join(str(error).split()) or type(error).__name__}") from error
        if answer.rrset is None:
            return Records((), 0.0)
        return Records([record.to_text() for record in answer.rrset], float(answer.rrset.ttl))


def routed_host(route: Route) -> str:
    """A route's destination as "host:port", the way sites are named and the dialler is told of it."""
    host = f"[{route.host}]" if ":" in route.host else route.host
    return f"{host}:{route.port}"


def _mx(text: str) -> tuple[int, str]:
    """Preference and host, lower case without the final dot; "" is the root, which means null MX."""
    preference, _, host = text.partition(" ")
    return int(preference), host.rstrip(".").lower()


def _name(hosts: Sequence[str]) -> str:
    name = ",".join(sorted(set(hosts)))
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return f"{min(hosts)},+{len(set(hosts)) - 1}:{digest}"
