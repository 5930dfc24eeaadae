"""Where mail for a domain goes: route, MX, or the domain itself (RFC 5321 section 5.1).

A DNS server that does not answer says nothing about the domain: that is
Unresolved, the mail waits. Only an answer can be NoMail.
"""

import asyncio
import hashlib
import ipaddress
import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Self

import msgspec

from mtad.base.clock import Clock
from mtad.base.config import Config
from mtad.wire.dns import DnsLookup, Lookup, Memory, Records, Unresolved

SMTP_PORT = 25

# A site's name stands in logs and metrics; MX sets of dozens of hosts exist.
MAX_NAME = 200

# The best of a domain's hosts: whoever publishes a thousand is not to have us dial them all.
MAX_HOSTS = 20

# What a name server may say is a host's name, and what TLS can be asked for, are not the
# same: an MX with other octets would be an error in the middle of a session.
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")

# Which addresses are asked for, those that are dialled first in front.
KINDS = {"ipv4": ("A", "AAAA"), "ipv6": ("AAAA", "A"), "ipv4_only": ("A",), "ipv6_only": ("AAAA",)}


class Site(msgspec.Struct, frozen=True):
    """Where a domain's mail goes: `hosts` like "10 mx1.example.com:25", by preference.

    `name` is the same for all domains with the same set of hosts. `ttl`: for how many
    seconds that is so, as far as we know; 0 for a route.
    """

    name: str
    hosts: list[str]
    ttl: float = 0.0

    def only(self, may: Callable[[str], bool]) -> Self | None:
        """With those of its hosts alone that `may` says yes to, by name; None where that is none."""
        hosts = [host for host in self.hosts if may(_bare(host))]
        return type(self)(_name([_bare(host) for host in hosts]), hosts, self.ttl) if hosts else None


class NoMail(msgspec.Struct, frozen=True):
    """The domain takes no mail. `absent`: it does not exist, says DNS now; `refuses`: it says so itself (RFC 7505)."""

    why: str
    absent: bool = False
    refuses: bool = False


class Resolver:
    """Answers from memory for as long as DNS says, and asks through `lookup`."""

    def __init__(self, clock: Clock, lookup: Lookup | None = None, *, prefer: str = "ipv4") -> None:
        """`prefer` is a key of KINDS: which addresses hosts have for us, and in which order."""
        self._memory = Memory(clock, lookup or DnsLookup().records)
        self._kinds = KINDS[prefer]

    @classmethod
    def from_config(cls, config: Config, clock: Clock) -> Self:
        """As `[dns]` says."""
        return cls(clock, DnsLookup(config.dns.servers).records, prefer=config.dns.prefer)

    async def site_of(self, domain: str, config: Config) -> Site | NoMail:
        """Where mail for a domain (ASCII, lower case) goes; a route before DNS. Raises Unresolved."""
        if route := config.route_for(domain):
            return Site(route.site, [f"0 {route.site}"])
        answer = await self.records(domain, "MX")
        if not answer.exists:
            return NoMail(f"the domain {domain} does not exist", absent=True)
        ranked = sorted({_mx(text) for text in answer.texts})
        if not ranked:
            if not await self.addresses(domain):
                return NoMail(f"the domain {domain} has neither MX nor address")
            ranked = [(0, domain)]
        return _site(domain, ranked, config.hostnames, answer.ttl)

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host, preferred ones first; none when it has none. Raises Unresolved."""
        if (literal := _literal(host)) is not None:
            return [literal]
        answers = await asyncio.gather(*(self.records(host, kind) for kind in self._kinds), return_exceptions=True)
        found: list[str] = []
        unresolved: Unresolved | None = None
        for answer in answers:
            match answer:
                case Records():
                    found += answer.texts
                case Unresolved():
                    unresolved = answer
                case _:
                    raise answer
        if unresolved and not found:
            raise unresolved
        return found

    async def records(self, name: str, kind: str) -> Records:
        """The records of an ASCII name, with the seconds for which they will be remembered; raises Unresolved."""
        return await self._memory.records(name, kind)


@lru_cache(maxsize=1024)  # those of routes, asked for at each session
def _literal(host: str) -> str | None:
    """An address that stands in place of a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _site(domain: str, ranked: Sequence[tuple[int, str]], us: Collection[str], ttl: float) -> Site | NoMail:
    """The site of a domain with these hosts, in order of preference, of which we may be some."""
    if not any(host for _, host in ranked):
        return NoMail(f"the domain {domain} says that it takes no mail (null MX)", refuses=True)
    usable = [(rank, host) for rank, host in ranked if _HOST.fullmatch(host)]
    if not usable:
        return NoMail(f"no MX of the domain {domain} is the name of a host")
    # Those that are not better than we are would give us our own mail back (RFC 5321 section 5.1).
    limit = min((rank for rank, host in usable if host in us), default=None)
    others = [(rank, host) for rank, host in usable if limit is None or rank < limit][:MAX_HOSTS]
    if not others:
        best = next(host for _, host in usable if host in us)
        return NoMail(f"mail for the domain {domain} would come back to us: {best} is its best MX")
    return Site(_name([host for _, host in others]), [f"{rank} {host}:{SMTP_PORT}" for rank, host in others], ttl)


def _mx(text: str) -> tuple[int, str]:
    """Preference and host, lower case without the final dot; "" is the root, which means null MX."""
    preference, _, host = text.partition(" ")
    return int(preference), host.rstrip(".").lower()


def _bare(host: str) -> str:
    """The name in "10 mx1.example.com:25"."""
    return host.partition(" ")[2].rpartition(":")[0]


def _name(hosts: Sequence[str]) -> str:
    name = ",".join(sorted(set(hosts)))
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return f"{min(hosts)},+{len(set(hosts)) - 1}:{digest}"
