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
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mtad.base.clock import Clock
from mtad.base.db import AWAY
from tracker import tokens
from tracker.door import Door, Doors, date_now
from tracker.hits import HYGIENE, Hit, Kind, Method
from tracker.ingest import Unsubscribe
from tracker.links import Link, destination
from tracker.noting import Noting
from tracker.pages import POLICY, Page, language_for, render
from tracker.plain import Plain
from tracker.tokens import Keys, Purpose

log = logging.getLogger("mtad.tracker")
http_log = logging.getLogger("mtad.tracker.http")  # what aiohttp says

# A form of one field; RFC 8058 needs 26 bytes, multipart a few hundred.
MOST_BODY = 8 * 1024

# How long a mail program waits for our database.
COMMIT_PATIENCE = 10.0

# How long a connection may idle, and how long an answer may take that we stop for; seconds.
KEEPALIVE = 30.0
SHUTDOWN = 5.0

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

# As aiohttp writes them, for plain requests.
_PIXEL_HEAD = (
    "HTTP/1.1 200 OK\r\n"
    + "".join(f"{name}: {value}\r\n" for name, value in _NEVER_STORE.items())
    + f"Content-Type: image/gif\r\nContent-Length: {len(PIXEL)}\r\nDate: "
).encode("ascii")
_FOUND = "".join(f"{name}: {value}\r\n" for name, value in _REDIRECT.items())

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
    noting = Noting(record, trusted_proxies=trusted_proxies, clock=clock)
    site = _Site(keys=keys, links=links, noting=noting, unsubscribe=unsubscribe, clock=clock)

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="not ready\n")

    app = web.Application(client_max_size=MOST_BODY)
    app[_SITE] = site
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


class _Runner(web.AppRunner):
    """aiohttp's, with doors before its connections."""

    __slots__ = ("_doors",)

    def __init__(self, app: web.Application) -> None:
        super().__init__(
            app,
            access_log=None,
            logger=http_log,
            handle_signals=False,
            shutdown_timeout=SHUTDOWN,
            keepalive_timeout=KEEPALIVE,
            auto_decompress=False,
        )
        self._doors = Doors(app[_SITE].plain, keepalive=KEEPALIVE)

    @property
    def server(self) -> web.Server | None:
        """What listeners ask for a protocol: a door that leads to aiohttp's."""
        server = super().server
        return cast("web.Server", partial(Door, self._doors, server)) if server else None

    async def shutdown(self) -> None:
        await self._doors.shutdown(SHUTDOWN)
        await super().shutdown()


def make_runner(app: web.Application) -> web.AppRunner:
    """The application ready for sockets: no access log, for it would hold tokens, and 20 µs a hit.

    Bodies are not decompressed: nobody compresses 26 bytes, and what cannot be decompressed
    would be an error with a traceback that anybody can cause.
    """
    return _Runner(app)


class _Site:
    """The handlers."""

    def __init__(self, *, keys: Keys, links: LinkMap, noting: Noting, unsubscribe: Unsubscribe, clock: Clock) -> None:
        self._keys = keys
        self._links = links
        self._noting = noting
        self._unsubscribe = unsubscribe
        self._clock = clock

    def plain(self, request: Plain, peer: str, answer: Callable[[bytes], None]) -> bool:
        """What `pixel` and `click` would answer a plain request, without their chain; False for any other answer."""
        method = Method(request.method)
        if request.pixel:
            token = tokens.read_pixel_token(self._keys, request.token)
            respond = partial(self._picture, method)
            if token is None:
                answer(respond())
                return True
            kind = Kind.OPEN
        else:
            values = tokens.values_of(request.values)
            token = None if values is None else tokens.read_link_token(self._keys, Purpose.CLICK, request.token, values)
            link = self._links.get(token.link_id) if token else None
            if values is None or token is None or link is None or not link.url:
                return False
            location = destination(link.url, values)
            if not location.isprintable():
                return False
            kind, respond = Kind.CLICK, partial(self._redirect, method, location)
        forwarded = request.headers.get("x-forwarded-for")
        hit = self._noting.hit(
            kind, method, request.headers, peer, (forwarded,) if forwarded is not None else (),
            job_id=token.job_id, link_id=token.link_id, how=HYGIENE if token.hygiene else "",
        )  # fmt: skip
        self._noting.begin(hit, lambda _durable: answer(respond()))
        return True

    def _picture(self, method: Method) -> bytes:
        return _PIXEL_HEAD + self._date() + (PIXEL if method is Method.GET else b"")

    def _redirect(self, method: Method, location: str) -> bytes:
        length = "Content-Length: 0\r\n" if method is Method.GET else ""
        return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n{_FOUND}{length}Date: ".encode() + self._date()

    def _date(self) -> bytes:
        return date_now(self._clock.now().timestamp()) + b"\r\n\r\n"

    async def pixel(self, request: web.Request) -> web.Response:
        """Always the picture: no oracle for guessers, no broken image for readers."""
        name = request.match_info["token"]
        token = tokens.read_pixel_token(self._keys, name.removesuffix(".gif"))
        if token:
            how = HYGIENE if token.hygiene else ""
            await self._noting.note(self._hit(request, Kind.OPEN, job_id=token.job_id, link_id=token.link_id, how=how))
        return web.Response(body=PIXEL, content_type="image/gif", headers=_NEVER_STORE)

    async def click(self, request: web.Request) -> web.Response:
        """To where the message says, and nowhere else."""
        # The raw path: the MAC is over values, and how they were encoded is ours to undo, once.
        name, slash, rest = request.rel_url.raw_path.removeprefix("/c/").partition("/")
        values = tokens.values_of(slash + rest)
        token = None if values is None else tokens.read_link_token(self._keys, Purpose.CLICK, name, values)
        if token is None or values is None:
            return _page(request, Page.BAD_LINK, 404)
        await self._noting.note(self._hit(request, Kind.CLICK, job_id=token.job_id, link_id=token.link_id))
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
        await self._noting.note(self._hit(request, Kind.LOOK, contact_id=token.contact_id, program_id=token.program_id))
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
        journalled = await self._noting.note(hit)
        committed = await self._commit(hit)
        if not by_button:
            if committed:
                return web.Response(text="unsubscribed\n", headers=_NEVER_STORE)
            return web.Response(status=503, text="try again later\n", headers={"Retry-After": "60"})
        if committed or journalled:
            return _page(request, Page.DONE if committed else Page.NOTED, 200)
        return _page(request, Page.LATER, 503)

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
        peer = request.transport.get_extra_info("peername") if request.transport else None
        return self._noting.hit(
            kind,
            Method(request.method),
            request.headers,
            peer[0] if peer else "",
            request.headers.getall("X-Forwarded-For", []),
            job_id=job_id,
            link_id=link_id,
            contact_id=contact_id,
            program_id=program_id,
            how=how,
        )


# The plain requests of an application are answered by its site.
_SITE = web.AppKey("_SITE", _Site)


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
