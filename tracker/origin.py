"""Where a request came from, as far as we want to know. Pure."""

import ipaddress
from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Enough to see a gateway's range, too little to name a household.
KEPT_BITS = {4: 24, 6: 48}

# So many proxies are remembered: few stand before us, and many clients behind them.
MOST_PROXIES = 1024


class Origins:
    """Says where requests come from, believing some proxies."""

    def __init__(self, trusted: Sequence[IPNetwork]) -> None:
        self._masks = {
            version: [(int(one.netmask), int(one.network_address)) for one in trusted if one.version == version]
            for version in KEPT_BITS
        }
        self._proxies: dict[str, tuple[str | None, bool]] = {}  # never a client: its address is not ours to keep

    def origin(self, peer: str, forwarded: Sequence[str]) -> str | None:
        """The network of the client: IPv4 cut to /24, IPv6 to /48; None when there is no address.

        `forwarded` are the values of X-Forwarded-For. They are believed only as far as
        trusted proxies wrote them: the client is the rightmost address that is none.
        """
        network, believed = self._proxies.get(peer) or self._peer(peer)
        if not believed or not forwarded:
            return network
        for hop in reversed(",".join(forwarded).split(",")):
            seen, believed = self._hop(hop)
            network = seen or network
            if not believed:
                break
        return network

    def address(self, peer: str, forwarded: Sequence[str]) -> str | None:
        """The same client's whole address: for proofs of consent and for limits, never for hits."""
        found = _address(peer)
        for hop in reversed(",".join(forwarded).split(",")):
            if found is None or not self._hop(str(found))[1]:
                break
            if (further := _address(hop)) is None:
                break
            found = further
        return str(found) if found else None

    def _peer(self, peer: str) -> tuple[str | None, bool]:
        found = self._hop(peer)
        if found[1] and len(self._proxies) < MOST_PROXIES:
            self._proxies[peer] = found
        return found

    def _hop(self, text: str) -> tuple[str | None, bool]:
        """The network of one address, and whether what it says of others is believed."""
        found = number_of(text) or _number(text)
        if found is None:
            return None, False
        version, number = found
        for mask, network in self._masks[version]:
            if number & mask == network:
                return _cut(version, number), True
        return _cut(version, number), False


def household(address: str | None, bits: int = 64) -> str:
    """What is limited together: an IPv4 address, or the /64 that one IPv6 connection has to itself.

    48 `bits` are what anybody is given who asks for more than that.
    """
    found = _address(address or "")
    if found is None or found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((int(found) >> 128 - bits << 128 - bits, bits)))


def _cut(version: int, number: int) -> str:
    """As ip_network would write it, which takes 6 µs."""
    if version == 4:
        return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.0/24"
    return f"{inet_ntop(AF_INET6, (number >> 80 << 80).to_bytes(16))}/48"


def _address(text: str) -> IPAddress | None:
    """An address with or without port or zone; IPv4 inside IPv6 as IPv4."""
    match _number(text):
        case None:
            return None
        case 4, number:
            return ipaddress.IPv4Address(number)
        case _, number:
            return ipaddress.IPv6Address(number)


def _number(text: str) -> tuple[int, int] | None:
    """The same as its version and its number."""
    return number_of(text.strip()) or number_of(_bare(text))


def number_of(text: str) -> tuple[int, int] | None:
    """Version and number of a bare address: taken apart by the system, in a tenth of the time."""
    try:
        if ":" not in text:
            return 4, int.from_bytes(inet_pton(AF_INET, text))
        number = int.from_bytes(inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        return None
    return (4, number & 0xFFFFFFFF) if number >> 32 == 0xFFFF else (6, number)


def _bare(text: str) -> str:
    """Without zone, brackets and port."""
    bare = text.strip().partition("%")[0]
    if bare.startswith("["):
        return bare[1:].partition("]")[0]
    return bare.partition(":")[0] if bare.count(":") == 1 else bare
