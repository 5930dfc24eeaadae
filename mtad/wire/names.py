"""Where aiohttp dials: our own resolver, not the machine's, and no address that may not be dialled."""

import socket
from collections.abc import Callable

from aiohttp.abc import AbstractResolver, ResolveResult

from mtad.wire.dns import Unresolved
from mtad.wire.resolver import Resolver


class Names(AbstractResolver):
    """Addresses of hosts from DNS as it is configured, not from files of this machine."""

    def __init__(self, resolver: Resolver, *, may_dial: Callable[[str], bool] = lambda _: True) -> None:
        """`may_dial`: whether an address is one to go to, for names that strangers choose."""
        self._resolver = resolver
        self._may_dial = may_dial

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """What may be dialled; OSError says why there is nothing."""
        try:
            # Which DNS need not know (RFC 6761 section 6.3).
            found = ["127.0.0.1", "::1"] if host == "localhost" else await self._resolver.addresses(host)
        except Unresolved as error:
            raise OSError(f"DNS does not answer: {error}") from None
        if not found:
            raise OSError("DNS has no address of it")
        usable = [address for address in found if self._may_dial(address)]
        if not usable:
            raise OSError(f"it is not in the Internet, but at {', '.join(found)}")
        kinds = [(socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in usable]
        return [
            ResolveResult(hostname=host, host=one, port=port, proto=0, flags=socket.AI_NUMERICHOST, family=kind)
            for kind, one in kinds
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        """Nothing of it is ours to close."""
