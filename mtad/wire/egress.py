"""What a session leaves by: the address it binds, and the name that it says."""

import asyncio
import os
import socket
from typing import Self

import msgspec

from mtad.base.source import Source

_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python has no name for it


class Egress(msgspec.Struct, frozen=True):
    """Addresses that may be bound, '' for none of that family, and what EHLO says ('': what the dialler says)."""

    ipv4: str = ""
    ipv6: str = ""
    hostname: str = ""

    @classmethod
    def of(cls, source: Source) -> Self:
        """As the configuration says."""
        addresses = {":" in address: address for address in source.address}
        return cls(addresses.get(False, ""), addresses.get(True, ""), source.hostname)

    @property
    def families(self) -> tuple[int, ...]:
        """Those of the servers that may be dialled: without any address both, for nothing is bound."""
        return tuple(n for n, address in ((4, self.ipv4), (6, self.ipv6)) if address) or (4, 6)

    def local(self, address: str) -> str:
        """What to bind towards a server's address, '' for whatever the system chooses."""
        return self.ipv6 if ":" in address else self.ipv4


# Of an installation without [[source]].
ANY = Egress()


class Unbound(msgspec.Struct, frozen=True):
    """The address of the source cannot be bound: no server was asked, and none is to blame."""

    why: str


class CannotBindError(Exception):
    """Of a local address; the text is the system's."""


async def connect(protocol: asyncio.Protocol, address: str, port: int, local: str) -> None:
    """Connect from `local`, '' for whatever the system chooses. CannotBindError: nobody was asked; else OSError."""
    loop = asyncio.get_running_loop()
    if not local:
        await loop.create_connection(lambda: protocol, address, port)
        return
    bound = bound_socket(local)
    try:
        await loop.sock_connect(bound, (address, port))
        await loop.create_connection(lambda: protocol, sock=bound)
    except BaseException:
        bound.close()
        raise


def bound_socket(local: str) -> socket.socket:
    """A socket with this address and no port yet; CannotBindError where the address is not ours to bind."""
    bound = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET)
    try:
        bound.setblocking(False)
        # Without this each connection takes a port of its own, and 28,000 are all there are:
        # with it the system chooses at connect, and one port serves many servers.
        bound.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        bound.bind((local, 0))
    except OSError as error:
        bound.close()
        raise CannotBindError(f"{local}: {os.strerror(error.errno or 0).lower()}") from None
    return bound
