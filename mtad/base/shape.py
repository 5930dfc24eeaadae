"""What limits the mail to one destination: the knobs, as KumoMTA names them, and the [shape] tables that set them.

A table leaves out what it does not change. mtad.shape lays them over each other:
default, provider, site, domain, each with what is said of one source.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from mtad.base.address import normal_domain
from mtad.base.section import Section, dotted, rate, seconds

SHIPPED = Path(__file__).with_name("providers.toml")

Sessions = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
EnableTls = Literal["OpportunisticInsecure", "RequiredInsecure", "Required", "Disabled"]
Extension = Literal["PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "SIZE"]
ByPolicy = Literal["MTA-STS"]
"""Required, where a domain's policy says so; nobody configures it."""


class Shape(Section, frozen=True, kw_only=True):
    """Every knob with its value: what is in force for one lane, and here the defaults."""

    connection_limit: Sessions = 10
    """Sessions to one site, over all workers and hosts."""
    max_message_rate: str = "100/s"
    """Messages to one site, over all workers and hosts: N/s, N/min, N/h, N/d, `,max_burst=M`."""
    max_connection_rate: str = ""
    """Connections opened to one site, likewise. Empty: as many as are needed."""
    provider_connection_limit: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """Sessions from one source to all sites of a provider together. 0: no such limit. In [shape.provider] alone."""
    provider_message_rate: str = ""
    """Messages likewise. Empty: no such limit."""
    max_deliveries_per_connection: Positive = 100
    """Then the session is closed and a new one opened."""
    idle_timeout: str = "5s"
    """An idle session is closed after this."""
    consecutive_connection_failures_before_delay: Positive = 1
    """After so many connections in a row that could not be had the site is left alone: 10 s, doubling to 10 min."""
    enable_tls: EnableTls | ByPolicy = "OpportunisticInsecure"
    """OpportunisticInsecure, RequiredInsecure, Required (verified) or Disabled."""
    enable_mta_sts: bool = True
    """A domain's own policy (RFC 8461) is found and kept to: its hosts alone, and verified TLS."""
    remember_broken_tls: str = "3d"
    """A server whose TLS is broken gets mail in clear for this long; then it is asked again."""
    ignore_extensions: tuple[Extension, ...] = ()
    """Extensions of SMTP that are not used although the server offers them."""
    connect_timeout: str = "30s"
    """Until the connection is there."""
    banner_timeout: str = "60s"
    """Until the server's greeting."""
    ehlo_timeout: str = "5m"
    """Until the answer to EHLO or HELO."""
    starttls_timeout: str = "60s"
    """Until the answer to STARTTLS, and again for the handshake."""
    mail_from_timeout: str = "5m"
    """Until the answer to MAIL."""
    rcpt_to_timeout: str = "5m"
    """Until the answer to RCPT."""
    data_timeout: str = "2m"
    """Until the answer to DATA."""
    data_dot_timeout: str = "10m"
    """Until the answer to the final dot; giving up sooner makes copies."""
    rset_timeout: str = "20s"
    """Until the answer to RSET."""
    quit_timeout: str = "5s"
    """Until the answer to QUIT."""
    retry_interval: str = "20m"
    """Delay after the first 4xx; doubles with each, half of it is jitter."""
    max_retry_interval: str = "6h"
    """The longest delay between two attempts."""
    max_age: str = "5d"
    """A mail that is older is given up as expired. The same for all destinations."""
    in_doubt_interval: str = "30m"
    """Delay after a lost answer to the final dot: the mail may have arrived. The same for all destinations."""


class Knobs(Section, frozen=True, kw_only=True):
    """Some knobs: those that one table sets. The units are those of Shape."""

    connection_limit: Sessions | UnsetType = UNSET
    max_message_rate: str | UnsetType = UNSET
    max_connection_rate: str | UnsetType = UNSET
    provider_connection_limit: Annotated[int, msgspec.Meta(ge=0, le=1000)] | UnsetType = UNSET
    provider_message_rate: str | UnsetType = UNSET
    max_deliveries_per_connection: Positive | UnsetType = UNSET
    idle_timeout: str | UnsetType = UNSET
    consecutive_connection_failures_before_delay: Positive | UnsetType = UNSET
    enable_tls: EnableTls | UnsetType = UNSET
    enable_mta_sts: bool | UnsetType = UNSET
    remember_broken_tls: str | UnsetType = UNSET
    ignore_extensions: tuple[Extension, ...] | UnsetType = UNSET
    connect_timeout: str | UnsetType = UNSET
    banner_timeout: str | UnsetType = UNSET
    ehlo_timeout: str | UnsetType = UNSET
    starttls_timeout: str | UnsetType = UNSET
    mail_from_timeout: str | UnsetType = UNSET
    rcpt_to_timeout: str | UnsetType = UNSET
    data_timeout: str | UnsetType = UNSET
    data_dot_timeout: str | UnsetType = UNSET
    rset_timeout: str | UnsetType = UNSET
    quit_timeout: str | UnsetType = UNSET
    retry_interval: str | UnsetType = UNSET
    max_retry_interval: str | UnsetType = UNSET


class Layer(Knobs, frozen=True, kw_only=True):
    """Some knobs, and others for what leaves through one source."""

    source: dict[str, Knobs] = msgspec.field(default_factory=dict)


class Provider(Layer, frozen=True, kw_only=True):
    """Receivers that one organisation runs: all sites whose first hosts end in one of `mx_suffix`."""

    mx_suffix: tuple[str, ...] = ()
    """`.google.com` is google.com and every host below it."""


class Shaping(Layer, frozen=True, kw_only=True):
    """[shape]: knobs for all destinations, and tables for some of them."""

    max_age: str = Shape().max_age
    in_doubt_interval: str = Shape().in_doubt_interval
    provider: dict[str, Provider] = msgspec.field(default_factory=dict)
    site: dict[str, Layer] = msgspec.field(default_factory=dict)
    domain: dict[str, Layer] = msgspec.field(default_factory=dict)


_OF_PROVIDERS = ("provider_connection_limit", "provider_message_rate")

GRAMMAR: Mapping[str, Callable[[str], object]] = {
    "max_message_rate": rate,
    "max_connection_rate": lambda text: text and rate(text),
    "provider_message_rate": lambda text: text and rate(text),
    "idle_timeout": seconds,
    "remember_broken_tls": seconds,
    "connect_timeout": seconds,
    "banner_timeout": seconds,
    "ehlo_timeout": seconds,
    "starttls_timeout": seconds,
    "mail_from_timeout": seconds,
    "rcpt_to_timeout": seconds,
    "data_timeout": seconds,
    "data_dot_timeout": seconds,
    "rset_timeout": seconds,
    "quit_timeout": seconds,
    "retry_interval": seconds,
    "max_retry_interval": seconds,
    "max_age": seconds,
    "in_doubt_interval": seconds,
}
"""What parses the text of a knob, or raises ValueError."""


@cache
def shipped_providers() -> dict[str, Provider]:
    """The providers that mtad knows, providers.toml; an operator's tables lie over them."""
    return msgspec.convert(tomllib.loads(SHIPPED.read_text(encoding="utf-8")), dict[str, Provider])


def tables(shaping: Shaping) -> Iterator[tuple[str, Knobs]]:
    """Every table of knobs with its name in the file."""
    yield from _with_sources("shape", shaping)
    for kind, layers in (("provider", shaping.provider), ("site", shaping.site), ("domain", shaping.domain)):
        for name, layer in layers.items():
            yield from _with_sources(dotted("shape", kind, name), layer)


def _with_sources(name: str, layer: Layer) -> Iterator[tuple[str, Knobs]]:
    yield name, layer
    for source, knobs in layer.source.items():
        yield f"{name}.{dotted('source', source)}", knobs


def texts(shaping: Shaping, routes: Mapping[str, Layer]) -> Iterator[tuple[str, Callable[[str], object], str]]:
    """Every text with a grammar: its key, what parses it or raises ValueError, the text."""
    others = chain.from_iterable(_with_sources(name, layer) for name, layer in routes.items())
    for name, table in [*tables(shaping), *others]:
        for knob, parse in GRAMMAR.items():
            if isinstance(text := getattr(table, knob, UNSET), str):
                yield f"{name}.{knob}", parse, text
        if not name.startswith("shape.provider."):
            for knob in _OF_PROVIDERS:
                if getattr(table, knob) not in (UNSET, 0, ""):
                    yield f"{name}.{knob}", _misplaced, knob
        if table.enable_mta_sts is not UNSET and (name.startswith("route.") or not isinstance(table, Layer)):
            yield f"{name}.enable_mta_sts", _without_effect, name
    for domain in shaping.domain:
        yield dotted("shape", "domain", domain), _normal_domain, domain
    for name, provider in shaping.provider.items():
        for suffix in provider.mx_suffix:
            yield dotted("shape", "provider", name, "mx_suffix"), _suffix, suffix
        if not provider.mx_suffix:
            yield dotted("shape", "provider", name), _shipped, name


def sources_named(shaping: Shaping, routes: Mapping[str, Layer]) -> Iterator[tuple[str, str]]:
    """Every table of what leaves through one source: its key, and the source."""
    layers = [("shape", shaping), *((name, layer) for name, layer in routes.items())]
    for kind, its in (("provider", shaping.provider), ("site", shaping.site), ("domain", shaping.domain)):
        layers += [(dotted("shape", kind, name), layer) for name, layer in its.items()]
    for name, layer in layers:
        for source in layer.source:
            yield f"{name}.{dotted('source', source)}", source


def known_providers(shaping: Shaping) -> frozenset[str]:
    """Those that mtad knows, and the operator's."""
    return frozenset(shipped_providers()) | frozenset(shaping.provider)


def _misplaced(knob: str) -> None:
    raise ValueError(f"say {knob} in [shape.provider.NAME]: it is of all sites of a provider together")


def _without_effect(_: str) -> None:
    raise ValueError("has no effect here: policies are those of domains, whatever their mail leaves by")


def _normal_domain(text: str) -> None:
    if normal_domain(text) != text:
        raise ValueError(f"write it as {normal_domain(text)}")


def _suffix(text: str) -> None:
    if not text.startswith(".") or normal_domain(text[1:]) != text[1:]:
        raise ValueError(f"{text!r} is not a suffix; write .example.com")


def _shipped(provider: str) -> None:
    if provider not in shipped_providers():
        known = ", ".join(sorted(shipped_providers()))
        raise ValueError(f"needs mx_suffix, for it is none of those that mtad knows: {known}")
