"""What DNS says of us now, asked for with little patience."""

import asyncio
from collections.abc import Sequence
from enum import StrEnum

from mtad.wire.dns import Unresolved
from mtad.wire.resolver import Resolver

# A resolver that has not answered by then does not help today.
DNS_PATIENCE = 4.0


async def asked(resolver: Resolver, name: str, kind: str) -> Sequence[str] | None:
    """The records, none when there are none; None when DNS cannot be had."""
    try:
        async with asyncio.timeout(DNS_PATIENCE):
            return (await resolver.records(name, kind)).texts
    except (Unresolved, TimeoutError):
        return None


class Published(StrEnum):
    """What DNS has of a key."""

    YES = "published"
    NO = "missing"
    OTHER = "another key"
    UNKNOWN = "not to be had"


async def published(name: str, record: str, resolver: Resolver) -> Published:
    """Whether DNS has the key of `record` at `name`."""
    found = await asked(resolver, name, "TXT")
    if found is None:
        return Published.UNKNOWN
    if _public_key(record) in map(_public_key, found):
        return Published.YES
    return Published.OTHER if found else Published.NO


def _public_key(record: str) -> tuple[str, str]:
    """Its kind and itself; a record without a kind means RSA (RFC 6376 section 3.6.1)."""
    tags = dict(tag.partition("=")[::2] for tag in "".join(record.split()).split(";"))
    return tags.get("k", "rsa"), tags.get("p", "")
