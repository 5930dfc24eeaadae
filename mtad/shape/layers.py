"""Which limits are in force for a lane: tables laid over each other, knob by knob. Pure.

    default → provider → site → domain, and over each what it says of the lane's source

The site of a domain that has a table of its own is its own, `gmail.com via mx.google.com`,
so that its limits bind nobody else's mail to the same hosts. So is that of domains whose
policy (MTA-STS) says how to get there, `mx.example.net+mta-sts`: others share the hosts
without having said so.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from math import inf
from typing import Any

import msgspec
from msgspec import UNSET

from mtad.base.section import dotted, rate
from mtad.base.shape import Knobs, Layer, Provider, Shape, Shaping, shipped_providers

_VIA = " via "
_SECURED = "+mta-sts"
_POLICY = {"enable_tls": "MTA-STS"}


class Setting(msgspec.Struct, frozen=True):
    """A knob, its value in force, and the table that says so."""

    knob: str
    value: Any
    origin: str


class Ceiling(msgspec.Struct, frozen=True):
    """The most that a lane can send, whatever its servers bear, and the knob that says so."""

    per_second: float
    knob: str


def ceiling(shape: Shape) -> Ceiling:
    """Of a steady flow: bursts are not counted, nor what a slow server makes of connection_limit."""
    dials = rate(shape.max_connection_rate).per_second if shape.max_connection_rate else inf
    together = rate(shape.provider_message_rate).per_second if shape.provider_message_rate else inf
    return min(
        Ceiling(rate(shape.max_message_rate).per_second, "max_message_rate"),
        Ceiling(together, "provider_message_rate"),
        Ceiling(dials * shape.max_deliveries_per_connection, "max_connection_rate and max_deliveries_per_connection"),
        key=lambda one: one.per_second,
    )


class Shaper:
    """Answers for every site and source; keeps one Shape for all lanes under the same tables."""

    def __init__(self, shaping: Shaping, routes: Mapping[str, Layer]) -> None:
        """`routes`: by site, host:port."""
        self._shaping = shaping
        self._routes = routes
        self._suffixes = _suffixes(shaping)
        self._shapes: dict[tuple[str | None, str, str | None, str | None, bool], Shape] = {}

    def provider(self, hosts: Sequence[str]) -> str | None:
        """Who runs a site, by its hosts ("10 mx1.example.com:25"): all of the best preference are his.

        The longest suffix counts. Where a customer has a host of his own beside, behind
        others, mail goes to the provider all the same.
        """
        ranked = [host.partition(" ") for host in hosts]
        best = min((int(rank) for rank, _, _ in ranked), default=0)
        found = {self._provider_of(target.rpartition(":")[0]) for rank, _, target in ranked if int(rank) == best}
        return found.pop() if len(found) == 1 else None

    def shape(self, site: str, hosts: Sequence[str], source: str) -> Shape:
        """The limits of the lane from a source to a site."""
        provider = self.provider(hosts)
        domain, name = _taken_apart(site)
        secured = is_secured(site)
        its = self._shaping.site
        known = name if name in self._routes or name in its or name + _SECURED in its else None
        key = (provider, source, known, domain if domain in self._shaping.domain else None, secured)
        shape = self._shapes.get(key)
        if shape is None:
            layers = [knobs for _, knobs in self._layers(site, provider, source)]
            shape = self._shapes[key] = Shape(
                max_age=self._shaping.max_age,
                in_doubt_interval=self._shaping.in_doubt_interval,
                **_set(reduce(over, layers, Knobs())) | (_POLICY if secured else {}),
            )
        return shape

    def settings(self, site: str, hosts: Sequence[str], source: str) -> list[Setting]:
        """The same with the origin of each value, in the order of the reference."""
        shape = self.shape(site, hosts, source)
        layers = list(self._layers(site, self.provider(hosts), source))
        return [
            Setting(knob, value, self._origin(knob, value, layers))
            for knob, value in msgspec.structs.asdict(shape).items()
        ]

    def _origin(self, knob: str, value: object, layers: Sequence[tuple[str, Knobs]]) -> str:
        if value == _POLICY.get(knob):
            return "policy of the domain"
        if knob not in Knobs.__struct_fields__:  # one value for all destinations
            return "default" if value == getattr(Shape(), knob) else "[shape]"
        return next((name for name, knobs in reversed(layers) if getattr(knobs, knob) is not UNSET), "default")

    def _layers(self, site: str, provider: str | None, source: str) -> Iterator[tuple[str, Knobs]]:
        """What is said of a lane, from the general to the particular, with the names of the tables."""
        secured = is_secured(site)
        domain, site = _taken_apart(site)
        shaping = self._shaping
        yield from _of(shaping, source, "shape")
        if provider in shipped_providers():
            yield f"provider {provider} (shipped)", shipped_providers()[provider]
        if provider in shaping.provider:
            yield from _of(shaping.provider[provider], source, "shape", "provider", provider)
        if site in self._routes:
            yield from _of(self._routes[site], source, "route", "shape")
        if site in shaping.site:
            yield from _of(shaping.site[site], source, "shape", "site", site)
        if secured and (name := site + _SECURED) in shaping.site:
            yield from _of(shaping.site[name], source, "shape", "site", name)
        if domain in shaping.domain:
            yield from _of(shaping.domain[domain], source, "shape", "domain", domain)

    def _provider_of(self, host: str) -> str | None:
        suffix = "." + host
        while suffix:
            if suffix in self._suffixes:
                return self._suffixes[suffix]
            _, dot, rest = suffix[1:].partition(".")
            suffix = dot + rest
        return None


def over(below: Knobs, above: Knobs) -> Knobs:
    """Both in one: what `above` sets counts. Associative; Knobs() changes nothing."""
    return Knobs(**(_set(below) | _set(above)))


def _set(knobs: Knobs) -> dict[str, Any]:
    values = ((knob, getattr(knobs, knob)) for knob in Knobs.__struct_fields__)
    return {knob: value for knob, value in values if value is not UNSET}


def site_name(shaping: Shaping, domain: str, site: str, *, secured: bool = False) -> str:
    """The name of the site that a domain's mail goes to: its own where it has a table of its own.

    `secured`: its policy says that it goes there over verified TLS.
    """
    name = f"{domain}{_VIA}{site}" if domain in shaping.domain else site
    return name + _SECURED if secured else name


def is_secured(name: str) -> bool:
    """Whether mail goes there over verified TLS because the policy of its domain says so."""
    return name.endswith(_SECURED)


def bare_site(name: str) -> str:
    """The name of a site's hosts, without the domain whose own it is."""
    return _taken_apart(name)[1]


def _taken_apart(site: str) -> tuple[str, str]:
    """Domain ("" for a site of many) and name of the hosts."""
    domain, via, name = site.removesuffix(_SECURED).partition(_VIA)
    return (domain, name) if via else ("", domain)


def _of(layer: Layer, source: str, *names: str) -> Iterator[tuple[str, Knobs]]:
    yield f"[{dotted(*names)}]", layer
    if source in layer.source:
        yield f"[{dotted(*names, 'source', source)}]", layer.source[source]


def _suffixes(shaping: Shaping) -> dict[str, str]:
    """Suffix → provider; a table that names suffixes replaces those that mtad knows."""
    providers: dict[str, Provider] = shipped_providers() | {
        name: provider for name, provider in shaping.provider.items() if provider.mx_suffix
    }
    return {suffix: name for name, provider in providers.items() for suffix in provider.mx_suffix}
