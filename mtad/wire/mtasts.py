"""MTA-STS at work: finds the policy of a domain in DNS and fetches it over HTTPS (RFC 8461 section 3).

Asked when a domain's site is looked for, never when a mail is sent. Without an answer the
policy that is known counts until it ends, so that nobody on the way can talk us out of it.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable

import aiohttp
from prometheus_client import Counter

from mtad.base.clock import Clock
from mtad.wire.dns import Unresolved
from mtad.wire.hosts import is_public
from mtad.wire.names import Names
from mtad.wire.policy import MOST_OCTETS, Policy, parsed, policy_id
from mtad.wire.resolver import Resolver

log = logging.getLogger("mtad.wire")

# A server of policies that is slow holds up the first mail to its domain.
FETCH_SECONDS = 10.0

# A policy is fetched again when it is so old, or half as old as it may become, though its
# id is the same: so it is renewed long before it ends.
RENEWED_AFTER = 86400.0

# Policies that are fetched at once: who has a million domains has not a million of our sockets.
ABREAST = 20

FETCHES = Counter("mtad_mta_sts_fetches_total", "MTA-STS policies asked for over HTTPS, by what came of it", ["result"])
GOT, FAILED = (FETCHES.labels(result=name) for name in ("got", "failed"))


class Policies:
    """Finds policies; remembers none, whoever asks says which one he knows."""

    def __init__(
        self,
        resolver: Resolver,
        clock: Clock,
        *,
        port: int = 443,
        may_dial: Callable[[str], bool] = is_public,
    ) -> None:
        """`port`: of their servers; `may_dial`: whether one may have an address."""
        self._resolver = resolver
        self._clock = clock
        self._port = port
        self._may_dial = may_dial
        self._room = asyncio.Semaphore(ABREAST)
        self._trust: ssl.SSLContext | None = None

    async def policy_of(self, domain: str, known: Policy | None) -> Policy | None:
        """The policy of a domain (ASCII, lower case) that counts now; `known` is what this said before."""
        now = self._clock.now().timestamp()
        if known is not None and known.until <= now:
            known = None
        try:
            id_ = policy_id((await self._resolver.records(f"_mta-sts.{domain}", "TXT")).texts)
        except Unresolved:
            return known
        if id_ is None:  # that it is gone from DNS ends no policy (RFC 8461 section 5.1)
            return known
        if known is not None and known.id == id_ and now < known.fetched + min(RENEWED_AFTER, known.max_age / 2):
            return known
        try:
            async with self._room, asyncio.timeout(FETCH_SECONDS):
                text = await self._fetch(f"mta-sts.{domain}")
            fresh = parsed(text, id=id_, now=now)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            FAILED.inc()
            why = str(error) or f"no answer within {FETCH_SECONDS:g} s"
            log.info("no MTA-STS policy", extra={"domain": domain, "why": why, "known": known is not None})
            return known
        GOT.inc()
        return fresh

    async def _fetch(self, host: str) -> str:
        """The text at a host; ValueError for an answer that is none, ClientError and OSError where none comes."""
        if self._trust is None:  # 20 ms for reading all authorities of the machine
            self._trust = await asyncio.to_thread(ssl.create_default_context)
        connector = aiohttp.TCPConnector(
            resolver=Names(self._resolver, may_dial=self._may_dial), ssl=self._trust, force_close=True
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        url = f"https://{host}:{self._port}/.well-known/mta-sts.txt"
        # Whoever could redirect us could be whoever may write some page there (RFC 8461 section 3.3).
        async with session, session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                raise ValueError(f"{host} answers {answer.status}")
            if answer.content_type != "text/plain":
                raise ValueError(f"{host} sends {answer.content_type}, not text/plain")
            body = b""
            while piece := await answer.content.read(MOST_OCTETS + 1):
                body += piece
                if len(body) > MOST_OCTETS:
                    raise ValueError(f"{host} sends more than {MOST_OCTETS} octets")
            return body.decode()  # UnicodeDecodeError is a ValueError
