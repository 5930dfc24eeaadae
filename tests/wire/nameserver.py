"""A name server on loopback, over UDP and TCP, that answers from a table.

    async with NameServer({("x.test", "MX"): ["10 mx.x.test."]}) as server:
        lookup = DnsLookup([server.address])

A name without any record does not exist. `failing` names are answered SERVFAIL, `silent`
ones not at all, and what is `long` does not fit into UDP.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SOA = "ns.test. hostmaster.test. 1 7200 900 1209600 {minimum}"


class NameServer(asyncio.DatagramProtocol):
    """Answers questions at `address`; `asked` are those it heard, TCP ones in `asked_by_tcp`."""

    def __init__(
        self, records: Mapping[tuple[str, str], Sequence[str]] | None = None, *, ttl: int = 600, minimum: int = 900
    ) -> None:
        self.records = dict(records or {})
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self.long: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.asked_by_tcp: list[tuple[str, str]] = []
        self._ttl = ttl
        self._minimum = minimum  # of the SOA: how long it is true that there is nothing

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
        self.address = "127.0.0.1", port
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        name, kind = _question(query)
        self.asked.append((name, kind))
        answer = self._answer(query, name, kind)
        if answer is None:
            return
        if name in self.long:
            answer = dns.message.make_response(query)
            answer.flags |= dns.flags.TC
        self._udp.sendto(answer.to_wire(), addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        query = dns.message.from_wire(await reader.readexactly(length))
        name, kind = _question(query)
        self.asked_by_tcp.append((name, kind))
        if answer := self._answer(query, name, kind):
            wire = answer.to_wire()
            writer.write(len(wire).to_bytes(2, "big") + wire)
            await writer.drain()
        writer.close()

    def _answer(self, query: dns.message.Message, name: str, kind: str) -> dns.message.Message | None:
        if name in self.silent:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        if texts := self.records.get((name, kind)):
            response.answer.append(dns.rrset.from_text(f"{name}.", self._ttl, "IN", kind, *texts))
            return response
        if not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        soa = SOA.format(minimum=self._minimum)
        response.authority.append(dns.rrset.from_text("test.", 86400, "IN", "SOA", soa))
        return response


def _question(query: dns.message.Message) -> tuple[str, str]:
    (question,) = query.question
    return question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
