"""Whether a domain's SPF record lets an address send (RFC 7208), as far as a sender needs to know it of his own."""

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Ask = Callable[[str, str], Awaitable[Sequence[str] | None]]
"""Name and type → the records, none when there are none; None when DNS cannot be had."""

# RFC 7208 section 4.6.4: mechanisms that ask DNS; receivers give up beyond.
MOST_LOOKUPS = 10


class Spf(StrEnum):
    """What a receiver would say."""

    ALLOWED = "allowed"
    NO = "not allowed"
    MISSING = "no record"
    WRONG = "cannot be read"
    UNKNOWN = "not judged"  # no DNS, or something that depends on each mail


class _Stop(Exception):
    def __init__(self, answer: Spf) -> None:
        self.answer = answer


class _Judge:
    def __init__(self, ask: Ask, address: IPv4Address | IPv6Address) -> None:
        self._ask = ask
        self._address = address
        self._lookups = 0

    async def verdict(self, domain: str) -> Spf:
        records = [text for text in await self._records(domain, "TXT") if text.lower().split(" ")[0] == "v=spf1"]
        if len(records) != 1:
            return Spf.WRONG if records else Spf.MISSING
        redirect = ""
        for term in records[0].lower().split()[1:]:
            name, equals, value = term.partition("=")
            if equals and ":" not in name and "/" not in name:
                redirect = value if name == "redirect" else redirect
                continue
            sign, mechanism = (term[0], term[1:]) if term[0] in "+-~?" else ("+", term)
            if await self._matches(mechanism, domain):
                return Spf.ALLOWED if sign == "+" else Spf.NO
        if not redirect:
            return Spf.NO
        self._count()
        said = await self.verdict(redirect)
        return Spf.WRONG if said is Spf.MISSING else said

    async def _matches(self, mechanism: str, domain: str) -> bool:
        name, _, value = mechanism.partition(":")
        name, slash, length = name.partition("/")
        if "%" in value or name in ("exists", "ptr"):
            raise _Stop(Spf.UNKNOWN)
        match name:
            case "all":
                return True
            case "ip4" | "ip6":
                return self._is_in(value)
            case "include":
                self._count()
                said = await self.verdict(value)
                if said in (Spf.MISSING, Spf.WRONG):
                    raise _Stop(Spf.WRONG)
                return said is Spf.ALLOWED
            case "a" | "mx":
                value, slash, length = value.partition("/") if value else ("", slash, length)
                self._count()
                hosts = [value or domain]
                if name == "mx":
                    hosts = [text.partition(" ")[2].rstrip(".") for text in await self._records(hosts[0], "MX")]
                kind = "A" if self._address.version == 4 else "AAAA"
                found = [address for host in hosts[:MOST_LOOKUPS] for address in await self._records(host, kind)]
                bits = self._prefix(slash + length)
                return any(self._is_in(f"{address}{bits}") for address in found)
            case _:
                raise _Stop(Spf.WRONG)

    def _prefix(self, text: str) -> str:
        """Of `/24//64` what concerns the family."""
        four, _, six = text.partition("//")
        return four if self._address.version == 4 else six and f"/{six}"

    def _is_in(self, network: str) -> bool:
        try:
            return self._address in ip_network(network, strict=False)
        except ValueError:
            raise _Stop(Spf.WRONG) from None

    def _count(self) -> None:
        self._lookups += 1
        if self._lookups > MOST_LOOKUPS:
            raise _Stop(Spf.WRONG)

    async def _records(self, name: str, kind: str) -> Sequence[str]:
        found = await self._ask(name, kind)
        if found is None:
            raise _Stop(Spf.UNKNOWN)
        return found


async def spf(domain: str, address: str, ask: Ask) -> Spf:
    """What the record of `domain` says of `address`; softfail and neutral are not allowed here."""
    try:
        return await _Judge(ask, ip_address(address)).verdict(domain)
    except _Stop as stop:
        return stop.answer
