"""Networks of which something is known: scanners', trusted ones, and our own proxies. Pure.

A line of the operator's files is `NETWORK SCOPE [label]`, SCOPE `clicks` or `all`; in the file of trusted networks
`NETWORK [label]`. Microsoft's are `clicks`: its picture proxy serves people from there. Hits
keep a range of their address only (tracker/origin.py), so no network may be narrower.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from mtad.base.errors import ConfigError
from tracker.origin import KEPT_BITS, number_of

SCOPES = ("clicks", "all")


class Network(msgspec.Struct, frozen=True):
    """One line of a file."""

    version: int
    number: int
    bits: int
    clicks_only: bool
    label: str


class Known(msgspec.Struct, frozen=True):
    """What is known of one range."""

    clicks: str | None = None  # the label of the scanner that follows links from there
    opens: str | None = None  # and loads pictures
    trusted: bool = False  # how its hits come is never held against them
    tells: bool = True  # False: of our proxies, or of no address; two hits from there need not have one origin


class Networks:
    """The operator's two files, and the proxies that stand before us."""

    def __init__(
        self, scanners: Sequence[Network] = (), trusted: Sequence[Network] = (), proxies: Sequence[str] = ()
    ) -> None:
        self._scanners = _by_bits(scanners)
        self._trusted = _by_bits(trusted)
        # By version, as whole numbers: objects of networks take 140 µs to make and compare.
        self._proxies: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for text in proxies:
            proxy = ipaddress.ip_network(text)
            self._proxies[proxy.version].append((int(proxy.network_address), int(proxy.broadcast_address)))
        # A campaign comes from some thousands of ranges, each of them many times.
        self.known = lru_cache(maxsize=8192)(self._known)

    def _known(self, text: str | None) -> Known:
        if text is None:
            return _NO_ADDRESS
        version = 6 if ":" in text else 4
        if not (self._proxies[version] or self._scanners[version] or self._trusted[version]):
            return _NOTHING
        read = number_of(text.partition("/")[0])
        assert read, "as tracker.origin writes it"
        number = read[1]
        last = number | (1 << (_WIDTH[version] - KEPT_BITS[version])) - 1
        if any(first <= last and number <= end for first, end in self._proxies[version]):
            return _NO_ADDRESS
        scanners = list(_found(self._scanners, version, number))
        trusted = any(_found(self._trusted, version, number))
        if not scanners and not trusted:
            return _NOTHING
        return Known(
            clicks=next((one.label for one in scanners), None),
            opens=next((one.label for one in scanners if not one.clicks_only), None),
            trusted=trusted,
        )


_WIDTH = {4: 32, 6: 128}
_NOTHING = Known()
_NO_ADDRESS = Known(tells=False)


def parse_networks(text: str, source: str, *, scoped: bool) -> tuple[Network, ...]:
    """The lines of a file; ConfigError names the line and what is wrong. `#` begins a comment."""
    found: list[Network] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"{source}: line {number}"
        try:
            network = ipaddress.ip_network(words[0])
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
        most = KEPT_BITS[network.version]
        if network.prefixlen > most:
            raise ConfigError(f"{where}: {words[0]}: hits keep /{most} of their address, write that or a wider one")
        if scoped and (len(words) < 2 or words[1] not in SCOPES):
            raise ConfigError(f"{where}: write {words[0]} and clicks or all, then a label")
        label = "_".join(words[2 if scoped else 1 :]).replace(",", "") or words[0]
        of_clicks = scoped and words[1] == "clicks"
        found.append(Network(network.version, int(network.network_address), network.prefixlen, of_clicks, label))
    return tuple(found)


_Lookup = dict[int, dict[int, dict[int, Network]]]  # version → bits, the longest first → number


def _by_bits(networks: Sequence[Network]) -> _Lookup:
    found: _Lookup = {4: {}, 6: {}}
    for one in sorted(networks, key=lambda one: -one.bits):
        found[one.version].setdefault(one.bits, {})[one.number] = one
    return found


def _found(lookup: _Lookup, version: int, number: int) -> Iterator[Network]:
    """Those that a range lies in, the narrowest first."""
    for bits, numbers in lookup[version].items():
        if found := numbers.get(number >> (_WIDTH[version] - bits) << (_WIDTH[version] - bits)):
            yield found


NOWHERE = Networks()
