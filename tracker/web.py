"""What recipients meet: pixel, click, and the way out. RFC 8058 to the letter.

* A hit is in the journal before it is answered. When the journal refuses, pixel
  and redirect are served all the same: the person is not to blame for our disk.
* GET and HEAD change nothing but counts. Whoever POSTs to a valid address of the
  way out leaves, whatever the body says: nobody holds that address but the
  recipient and her mail program, which sends no cookie and maybe no user agent.
* Nothing here ever fetches a URL.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_network
from typing import Protocol
from uuid import UUID

from aiohttp import web
from aiohttp.http import HttpProcessingError
from prometheus_client import Counter

from mtad.base.clock import Clock
from mtad.base.db import AWAY
from mtad.base.ids import uuid7
from tracker import tokens
from tracker.agents import MAX_AGENT
from tracker.hits import Hit, Kind, Method
from tracker.ingest import Unsubscribe
from tracker.links import Link, destination
from tracker.origin import origin
from tracker.pages import POLICY, Page, language_for, render
from tracker.tokens import Keys, Purpose

log = logging.getLogger("mtad.tracker")
http_log = logging.getLogger("mtad.tracker.http")  # what aiohttp says

HITS = Counter("mtad_tracker_hits_total", "Hits with a valid token", ["kind", "method"])
DROPPED = Counter("mtad_tracker_dropped_total", "Hits that were answered but could not be journalled", ["kind"])

# A form of one field; RFC 8058 needs 26 bytes, multipart a few hundred.
MOST_BODY = 8 * 1024

# How long a person waits for our disk, and a mail program for our database.
JOURNAL_PATIENCE = 2.0
COMMIT_PATIENCE = 10.0

PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")

_NEVER_STORE = {
    "Cache-Control": "no-store, no-cache, must-revalidate, max-age=0, private",
    "Pragma": "no-cache",
    "Expires": "0",
}
_REDIRECT = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}
_PAGE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Vary": "Accept-Language",
}


class LinkMap(Protocol):
    """Where links lead: `get` from memory; `find` asks the database, False when it gives no answer."""

    def get(self, link_id: int) -> Link | None: ...

    async def find(self, link_id: int) -> bool: ...


def make_app(
    *,
    keys: Keys,
    links: LinkMap,
    record: Callable[[Hit], Awaitable[None]],
    unsubscribe: Unsubscribe,
    trusted_proxies: Sequence[str],
    ready: Callable[[], bool],
    clock: Clock,
) -> web.Application:
    """The whole tracker as an application; what it does to the world is injected.

    `record` returns when the hit is durable, and raises OSError when it cannot be.
    `unsubscribe` returns when it is committed; anything it raises means that it is
    not. `ready` answers /healthz.
    """
    site = _Site(
        keys=keys,
        links=links,
        record=record,
        unsubscribe=unsubscribe,
        trusted_proxies=trusted_proxies,
        clock=clock,
    )

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="not ready\n")

    app = web.Application(client_max_size=MOST_BODY)
    app.on_response_prepare.append(_without_server)
    app.add_routes([
        web.get("/o/{token}", site.pixel),
        web.get("/c/{token}", site.click),
        web.get("/c/{token}/{values:.*}", site.click),
        web.get("/u/{token}", site.look),
        web.post("/u/{token}", site.leave),
        web.get("/robots.txt", _robots),
        web.get("/favicon.ico", _favicon),
        web.get("/healthz", health),
    ])  # fmt: skip
    return app


def _ours(record: logging.LogRecord) -> bool:
    """Whether a record of aiohttp is about us: its line would name the client, and quote what it sent."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | ConnectionError):
        return False
    record.msg, record.args = "a request failed", ()
    return True


http_log.addFilter(_ours)


def make_runner(app: web.Application) -> web.AppRunner:
    """The application ready for sockets: no access log, for it would hold tokens, and 20 µs a hit.

    Bodies are not decompressed: nobody compresses 26 bytes, and what cannot be decompressed
    would be an error with a traceback that anybody can cause.
    """
    return web.AppRunner(
        app,
        access_log=None,
        logger=http_log,
        handle_signals=False,
        shutdown_timeout=5.0,
        keepalive_timeout=30.0,
        auto_decompress=False,
    )


class _Site:
    """The handlers."""

    def __init__(
        self,
        *,
        keys: Keys,
        links: LinkMap,
        record: Callable[[Hit], Awaitable[None]],
        unsubscribe: Unsubscribe,
        trusted_proxies: Sequence[str],
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._links = links
        self._record = record
        self._unsubscribe = unsubscribe
        self._trusted = [ip_network(network) for network in trusted_proxies]
        self._clock = clock
        self._refused = False  # whether the journal refused the last hit

    async def pixel(self, request: web.Request) -> web.Response:
        """Always the picture: no oracle for guessers, no broken image for readers."""
        name = request.match_info["token"]
        token = tokens.read_link_token(self._keys, Purpose.OPEN, name.removesuffix(".gif"))
        if token:
            await self._note(self._hit(request, Kind.OPEN, job_id=token.job_id, link_id=token.link_id))
        return web.Response(body=PIXEL, content_type="image/gif", headers=_NEVER_STORE)

    async def click(self, request: web.Request) -> web.Response:
        """To where the message says, and nowhere else."""
        # The raw path: the MAC is over values, and how they were encoded is ours to undo, once.
        name, slash, rest = request.rel_url.raw_path.removeprefix("/c/").partition("/")
        values = tokens.values_of(slash + rest)
        token = None if values is None else tokens.read_link_token(self._keys, Purpose.CLICK, name, values)
        if token is None or values is None:
            return _page(request, Page.BAD_LINK, 404)
        await self._note(self._hit(request, Kind.CLICK, job_id=token.job_id, link_id=token.link_id))
        link = self._links.get(token.link_id)
        if link is None:
            answered = await self._links.find(token.link_id)
            link = self._links.get(token.link_id)
            if link is None and not answered:
                return _page(request, Page.LATER, 503)
        if link is None or not link.url:
            return _page(request, Page.BAD_LINK, 404)
        return web.Response(status=302, headers={"Location": destination(link.url, values), **_REDIRECT})

    async def look(self, request: web.Request) -> web.Response:
        """The page with the button; looking at it changes nothing."""
        token = tokens.read_contact_token(self._keys, request.match_info["token"])
        if token is None:
            return _page(request, Page.BAD_LINK, 404)
        if not token.contact_id:
            return _page(request, Page.NOBODY, 200)
        await self._note(self._hit(request, Kind.LOOK, contact_id=token.contact_id, program_id=token.program_id))
        return _page(request, Page.ASK, 200)

    async def leave(self, request: web.Request) -> web.Response:
        """One click of a mail program, or of the button: journalled, committed, answered.

        A bad token, or one of a preview, is answered with 2xx, because trying again would
        not mend it (RFC 8058 section 3.2); an absent database with 503, because it would.
        """
        by_button = b"confirm=1" in (await _body(request)).split(b"&")
        token = tokens.read_contact_token(self._keys, request.match_info["token"])
        if token is None or not token.contact_id:
            page = Page.NOBODY if token else Page.BAD_LINK
            return _page(request, page, 200) if by_button else web.Response(text="nothing to do\n")
        hit = self._hit(
            request,
            Kind.UNSUBSCRIBE,
            contact_id=token.contact_id,
            program_id=token.program_id,
            how="page" if by_button else "one_click",
        )
        journalled = await self._note(hit)
        committed = await self._commit(hit)
        if not by_button:
            if committed:
                return web.Response(text="unsubscribed\n", headers=_NEVER_STORE)
            return web.Response(status=503, text="try again later\n", headers={"Retry-After": "60"})
        if committed or journalled:
            return _page(request, Page.DONE if committed else Page.NOTED, 200)
        return _page(request, Page.LATER, 503)

    async def _note(self, hit: Hit) -> bool:
        """Have the hit durable; False, and counted, when the disk refuses or takes too long."""
        HITS.labels(kind=hit.kind, method=hit.method).inc()
        try:
            async with asyncio.timeout(JOURNAL_PATIENCE):
                await self._record(hit)
        except (OSError, TimeoutError) as error:
            DROPPED.labels(kind=hit.kind).inc()
            if not self._refused:
                # Once: a line for each of 10,000 hits a second would fill what is left of the disk.
                log.error("hits cannot be journalled", extra={"why": str(error) or type(error).__name__})  # noqa: TRY400
            self._refused = True
            return False
        self._refused = False
        return True

    async def _commit(self, hit: Hit) -> bool:
        try:
            async with asyncio.timeout(COMMIT_PATIENCE):
                await self._unsubscribe(
                    event_id=hit.event_id,
                    contact_id=hit.contact_id,
                    program_id=hit.program_id,
                    at=hit.at,
                    how=hit.how,
                )
        except AWAY as error:
            log.warning("an unsubscribe waits in the journal", extra={"why": str(error) or type(error).__name__})
            return False
        except Exception:
            log.exception("an unsubscribe waits in the journal", extra={"event": str(hit.event_id)})
            return False
        return True

    def _hit(
        self,
        request: web.Request,
        kind: Kind,
        *,
        job_id: int = 0,
        link_id: int = 0,
        contact_id: int = 0,
        program_id: int = 0,
        how: str = "",
    ) -> Hit:
        at = self._clock.now()
        peer = request.transport.get_extra_info("peername") if request.transport else None
        return Hit(
            _event_id(at.timestamp()),
            at,
            kind,
            _method(request),
            _printable(request.headers.get("User-Agent", ""))[:MAX_AGENT],
            origin(peer[0] if peer else "", request.headers.getall("X-Forwarded-For", []), self._trusted),
            job_id=job_id,
            link_id=link_id,
            contact_id=contact_id,
            program_id=program_id,
            how=how,
        )


def _event_id(unix: float) -> UUID:
    return uuid7(int(unix * 1000), os.urandom(10))


def _method(request: web.Request) -> Method:
    for name in ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"):
        purpose = request.headers.get(name, "").lower()
        if request.method == "GET" and ("prefetch" in purpose or "prerender" in purpose):
            return Method.PREFETCH
    return Method(request.method)


def _printable(text: str) -> str:
    """Without control characters and the surrogates in which aiohttp hands on what is not UTF-8."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(COMMIT_PATIENCE):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


def _page(request: web.Request, page: Page, status: int) -> web.Response:
    language = language_for(request.headers.get("Accept-Language", ""))
    return web.Response(
        status=status,
        text=render(page, language),
        content_type="text/html",
        charset="utf-8",
        headers={**_PAGE, "Content-Language": language},
    )


async def _robots(_: web.Request) -> web.Response:
    return web.Response(text="User-agent: *\nDisallow: /\n")


async def _favicon(_: web.Request) -> web.Response:
    return web.Response(status=204, headers={"Cache-Control": "max-age=86400"})


async def _without_server(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)
