"""[[source]] and [[pool]]: the addresses that mail leaves by, and how streams share them."""

from collections.abc import Iterator, Sequence
from datetime import date
from ipaddress import ip_address
from typing import Annotated

import msgspec

from mtad.base.address import normal_domain
from mtad.base.section import Section

# The source where none is configured, and the pool of streams that name none.
DEFAULT = "default"

# The provider of sites that nobody runs whom we know.
OTHER = "other"

# In lanes (source/site), in metrics and in TOML keys without quotes.
Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9_-]{0,31}$")]
Weight = Annotated[int, msgspec.Meta(ge=1, le=1000)]


Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Mails = Annotated[int, msgspec.Meta(ge=1)]

# Doubling, as receivers advise; on the twelfth day it is a hundred thousand, and then there is no limit.
PLAN = tuple(50 * 2**day for day in range(12))


class Warmup(Section, frozen=True, kw_only=True):
    """[source.warmup]: how a new address begins. Days are those of UTC."""

    start: date
    """The first day; nothing leaves through the source before."""
    plan: tuple[Mails, ...] = PLAN
    """Mails to each provider on the first day of sending, the second …; after the last there is no limit."""
    provider: dict[str, tuple[Mails, ...]] = msgspec.field(default_factory=dict)
    """Plans for providers by name; `other` is all receivers that are none together."""
    most_deferred: Share = 0.1
    """The plan goes no further after a day of which a larger share was refused because of us."""
    most_complaints: Share = 0.001
    """The same for complaints."""


class Source(Section, frozen=True, kw_only=True):
    """One way out."""

    name: Name
    """Its name in limits, the ledger, metrics and commands: a-z, 0-9, - and _."""
    address: tuple[str, ...] = ()
    """Addresses of this machine, one IPv4, one IPv6 or both; only servers of these families are dialled. Empty: any."""
    hostname: str = ""
    """What we say in EHLO; its address must be ours, and resolve back. Empty: that of [mta]."""
    warmup: Warmup | None = None
    """How it begins; without it, it is established."""


class SourcePool(Section, frozen=True, kw_only=True):
    """Sources that share the mail of the streams that name the pool."""

    name: Name
    """What a stream names; that of streams that name none is `default`."""
    sources: dict[str, Weight]
    """Each with its weight, 1 to 1000: how many sessions it opens of the sum of all."""


def sources_of(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Those configured, or the one that is there without."""
    return tuple(sources) or (Source(name=DEFAULT),)


def weights_of(sources: Sequence[Source], pools: Sequence[SourcePool]) -> dict[str, dict[str, int]]:
    """By pool, by source: its weight. There is always a pool `default`, by itself of all sources alike."""
    return {DEFAULT: {source.name: 1 for source in sources_of(sources)}} | {pool.name: pool.sources for pool in pools}


def faults(sources: Sequence[Source], pools: Sequence[SourcePool]) -> Iterator[tuple[str, str]]:
    """What is wrong with them, as key and words."""
    names = [source.name for source in sources]
    for number, source in enumerate(sources):
        key = f"source[{number}]"
        if source.name in names[:number]:
            yield f"{key}.name", f"{source.name!r} is that of source[{names.index(source.name)}] already"
        yield from ((f"{key}.address", wrong) for wrong in _wrong_addresses(source.address))
        try:
            normal_domain(source.hostname or "mail.test")
        except ValueError as error:
            yield f"{key}.hostname", str(error)
    called = [pool.name for pool in pools]
    for number, pool in enumerate(pools):
        if pool.name in called[:number]:
            yield f"pool[{number}].name", f"{pool.name!r} is that of pool[{called.index(pool.name)}] already"
        if not pool.sources:
            yield f"pool[{number}].sources", "is empty; write { name = weight }"
        for name in pool.sources:
            if name not in names:
                yield f"pool[{number}].sources", f"there is no [[source]] named {name!r}"


def _wrong_addresses(addresses: Sequence[str]) -> Iterator[str]:
    families = []
    for address in addresses:
        try:
            families.append(ip_address(address).version)
        except ValueError as error:
            yield str(error)
    if len(families) != len(set(families)):
        yield "one IPv4 and one IPv6 at most; write a [[source]] for each further one"
