"""DNS: asked through dnspython, remembered for as long as the answers say.

No answer is not an answer: a time-out, SERVFAIL and a network that is away are
Unresolved, and say nothing about the name. Only NXDOMAIN says that there is none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver
import msgspec
from dns.nameserver import Do53Nameserver
from dns.rdtypes.ANY.TXT import TXT
from prometheus_client import Counter

from mtad.base.clock import Clock

# Answers are kept as long as they say, within these bounds: below, a busy domain would
# be asked for with every session; above, a move would go unnoticed for days.
LEAST_TTL = 30.0
MOST_TTL = 3600.0
# That there is nothing, for the time of the zone's SOA (RFC 2308 section 5), up to this:
# a domain that has just been set up is not to wait for the three hours that are allowed.
MOST_NEGATIVE_TTL = 300.0
# That nobody answered, so that a hundred sessions do not wait for the same silence one
# after the other (RFC 9520 section 3.2: at least 1 s, at most 5 min).
FAILURE_TTL = 5.0
# Names and types; the one that was asked for first is forgotten first. About 1 kB each.
MAX_CACHED = 20_000

# What a resolver finds out later it knows when it is asked again; longer would have names
# that nobody answers for hold the places of others.
LOOKUP_SECONDS = 5.0

_QUESTIONS = Counter("mtad_dns_questions_total", "Questions to name servers by what came of them", ["answer"])
FOUND, NOTHING, UNANSWERED = (_QUESTIONS.labels(answer=name) for name in ("found", "nothing", "none"))


class Unresolved(Exception):
    """No answer, or none that helps now: try again later."""


class Records(msgspec.Struct, frozen=True):
    """An answer: texts of the records as in a zone file, of TXT what they say. `exists` False is NXDOMAIN."""

    texts: Sequence[str]
    ttl: float  # seconds
    exists: bool = True


Lookup = Callable[[str, str], Awaitable[Records]]
"""(name, type) → what DNS says; raises Unresolved."""


class DnsLookup:
    """Asks name servers, (address, port) in this order; none given: those of /etc/resolv.conf."""

    def __init__(self, nameservers: Sequence[tuple[str, int]] = ()) -> None:
        self._nameservers = nameservers
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def records(self, name: str, kind: str) -> Records:
        """What DNS says about an ASCII name; Unresolved when it does not say within 5 s."""
        try:
            if self._resolver is None:
                self._resolver = _resolver(self._nameservers)
            answer = await self._resolver.resolve(
                dns.name.from_text(name), kind, raise_on_no_answer=False, search=False, lifetime=LOOKUP_SECONDS
            )
        except dns.resolver.NXDOMAIN as error:
            NOTHING.inc()
            return Records((), _ttl_of_nothing(error), exists=False)
        except (dns.exception.DNSException, OSError) as error:
            UNANSWERED.inc()
            raise Unresolved(f"DNS {kind} {name}: {' '.join(str(error).split()) or type(error).__name__}") from error
        ttl = float(answer.chaining_result.minimum_ttl)
        if answer.rrset is None:
            NOTHING.inc()
            return Records((), ttl)
        FOUND.inc()
        return Records([_text(record) for record in answer.rrset], ttl)


class Memory:
    """Answers of `lookup`, kept for their time; a question that is under way is not asked twice."""

    def __init__(self, clock: Clock, lookup: Lookup) -> None:
        self._clock = clock
        self._lookup = lookup
        self._kept: dict[tuple[str, str], tuple[float, Records | str]] = {}  # a str says why there was none
        self._asking: dict[tuple[str, str], asyncio.Event] = {}

    async def records(self, name: str, kind: str) -> Records:
        """What DNS says, with the seconds for which it will be remembered; raises Unresolved."""
        key = name, kind
        while True:
            if (kept := self._kept.get(key)) and (left := kept[0] - self._clock.monotonic()) > 0:
                if isinstance(kept[1], str):
                    raise Unresolved(kept[1])
                return msgspec.structs.replace(kept[1], ttl=left)
            if (asking := self._asking.get(key)) is None:
                break
            await asking.wait()  # whoever asks may be cancelled; then it is our turn
        self._asking[key] = asking = asyncio.Event()
        try:
            records = await self._lookup(name, kind)
        except Unresolved as error:
            self._keep(key, FAILURE_TTL, str(error))
            raise
        finally:
            del self._asking[key]
            asking.set()
        most = MOST_TTL if records.texts else MOST_NEGATIVE_TTL
        records = msgspec.structs.replace(records, ttl=min(max(records.ttl, LEAST_TTL), most))
        self._keep(key, records.ttl, records)
        return records

    def _keep(self, key: tuple[str, str], seconds: float, what: Records | str) -> None:
        self._kept.pop(key, None)
        if len(self._kept) >= MAX_CACHED:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = self._clock.monotonic() + seconds, what


def _resolver(nameservers: Sequence[tuple[str, int]]) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=not nameservers)
    if nameservers:
        resolver.nameservers = [Do53Nameserver(address, port) for address, port in nameservers]
    return resolver


def _ttl_of_nothing(error: dns.resolver.NXDOMAIN) -> float:
    """As the zone's SOA says; 0 where the answer had none."""
    for response in error.kwargs.get("responses", {}).values():
        return float(response.resolve_chaining().minimum_ttl)
    return 0.0


def _text(record: object) -> str:
    if isinstance(record, TXT):
        return b"".join(record.strings).decode("utf-8", "replace")
    return str(record)
