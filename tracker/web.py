"""What recipients meet: pixel and click, and where everything else is found.

* A hit is in the journal before it is answered. When the journal refuses, pixel
  and redirect are served all the same: the person is not to blame for our disk.
* GET and HEAD change nothing but counts.
* Nothing here ever fetches a URL.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Protocol, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mtad.base.clock import Clock
from tracker import tokens
from tracker.answers import MOST_BODY, Visitors, page
from tracker.desk import Desk
from tracker.door import Door, Doors, date_of
from tracker.forms import Forms
from tracker.handover import Came, Handover
from tracker.hits import HYGIENE, Hit, Kind, Method, reader_of
from tracker.ingest import Unsubscribe
from tracker.leaving import Leaving
from tracker.links import Link, destination
from tracker.noting import Moment, Noting, Record
from tracker.pages import Page
from tracker.pageviews import PageViews, Redeem
from tracker.plain import Plain
from tracker.preferences import Preferences
from tracker.servers import Servers
from tracker.tokens import ContactToken, Keys, Purpose

http_log = logging.getLogger("mtad.tracker.http")  # what aiohttp says

# Of looks at the database for a page's sake: mail goes first.
MOST_LOOKS = 2

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


class LinkMap(Protocol):
    """Where links lead: `get` from memory; `find` asks the database, False when it gives no answer."""

    def get(self, link_id: int) -> Link | None: ...

    async def find(self, link_id: int) -> bool: ...


def make_app(
    *,
    keys: Keys,
    links: LinkMap,
    record: Record,
    unsubscribe: Unsubscribe,
    trusted_proxies: Sequence[str],
    ready: Callable[[], bool],
    clock: Clock,
    desk: Desk | None = None,
    servers: Servers | None = None,
    sites: Sequence[str] = (),
    redeem: Redeem | None = None,
) -> web.Application:
    """The whole tracker as an application; what it does to the world is injected.

    `record` tells when hits are durable, and raises OSError, or tells it, when they cannot be.
    `unsubscribe` returns when it is committed; anything it raises means that it is
    not. `ready` answers /healthz, and behind it a number as only who has our keys can. `desk`
    knows people: without one there are no forms and no preferences, and the page with the
    button is in the browser's language. `servers` takes what servers POST. Clicks that lead to
    `sites` hand over who clicked, and pages there are noted; `redeem` uses up what was handed over.
    """
    noting = Noting(record, trusted_proxies=trusted_proxies, clock=clock)
    handover = Handover(keys, sites if redeem else ())
    site = _Site(keys=keys, links=links, noting=noting, handover=handover)
    places = asyncio.Semaphore(MOST_LOOKS)
    leaving = Leaving(keys=keys, noting=noting, hit=site.hit_of, unsubscribe=unsubscribe, desk=desk, places=places)

    async def health(request: web.Request) -> web.Response:
        if not ready():
            return web.Response(status=503, text="not ready\n")
        asked = request.match_info.get("asked")
        answer = "ok\n" if asked is None else tokens.proof(keys, asked)
        return web.Response(text=answer, headers={"Cache-Control": "no-store"})

    app = web.Application(client_max_size=MOST_BODY)
    app[_SITE] = site
    app.on_response_prepare.append(_without_server)
    app.add_routes([
        web.get("/o/{token}", site.pixel),
        web.get("/c/{token}", site.click),
        web.get("/c/{token}/{values:.*}", site.click),
        *leaving.routes(),
        web.get("/robots.txt", _robots),
        web.get("/favicon.ico", _favicon),
        web.get("/healthz", health),
        web.get("/healthz/{asked:[0-9a-f]{32}}", health),
    ])  # fmt: skip
    if servers is not None:
        app.add_routes(servers.routes())
    if redeem is not None:
        views = PageViews(handover=handover, noting=noting, hit=site.view_of, redeem=redeem, clock=clock)
        app.add_routes(views.routes())
    if desk is not None:
        visitors = Visitors(trusted_proxies)
        app.add_routes(Forms(desk, keys, visitors, places, clock).routes())
        preferences = Preferences(
            desk=desk, keys=keys, noting=noting, hit=site.hit_of, visitors=visitors, places=places, clock=clock
        )
        app.add_routes(preferences.routes())
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
        self._doors = Doors(app[_SITE], keepalive=KEEPALIVE)

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

    def __init__(self, *, keys: Keys, links: LinkMap, noting: Noting, handover: Handover) -> None:
        self._keys = keys
        self._links = links
        self._noting = noting
        self._handover = handover

    def moment(self) -> Moment:
        return self._noting.moment()

    def plain(self, request: Plain, moment: Moment, peer: str) -> tuple[bytes, Hit | None] | None:
        """What `pixel` and `click` would answer a plain request, and note, without their chain; None: not these."""
        if request.pixel:
            kind = Kind.OPEN
            token = tokens.read_pixel_token(self._keys, request.token)
            response = _picture(request.method, moment.unix_ms // 1000)
            if token is None:
                return response, None
        else:
            kind = Kind.CLICK
            values = tokens.values_of(request.values)
            token = None if values is None else tokens.read_link_token(self._keys, Purpose.CLICK, request.token, values)
            link = self._links.get(token.link_id) if token else None
            if values is None or token is None or link is None or not link.url:
                return None
            location = self._location(link, values, token, request.method, moment)
            if not location.isprintable():
                return None
            response = _redirect(request.method, location, moment.unix_ms // 1000)
        return response, self._noting.hit(
            moment, kind, request.method, request.reader, peer,
            (request.forwarded,) if request.forwarded is not None else (),
            job_id=token.job_id, link_id=token.link_id, how=HYGIENE if token.hygiene else "",
        )  # fmt: skip

    def note(self, hits: Sequence[Hit], now: float, then: Callable[[bool], None]) -> None:
        self._noting.begin(hits, now, then, alone=True)

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
            return page(request, Page.BAD_LINK, 404)
        await self._noting.note(self._hit(request, Kind.CLICK, job_id=token.job_id, link_id=token.link_id))
        link = self._links.get(token.link_id)
        if link is None:
            answered = await self._links.find(token.link_id)
            link = self._links.get(token.link_id)
            if link is None and not answered:
                return page(request, Page.LATER, 503)
        if link is None or not link.url:
            return page(request, Page.BAD_LINK, 404)
        location = self._location(link, values, token, Method(request.method), self.moment())
        return web.Response(status=302, headers={"Location": location, **_REDIRECT})

    def _location(
        self, link: Link, values: tuple[str, ...], token: tokens.LinkToken, method: Method, moment: Moment
    ) -> str:
        """Where the message says; on a site of the operator's with the parameter that says who comes."""
        url = destination(link.url, values)
        if method is not Method.GET:
            return url
        return self._handover.address(url, token.job_id, moment.unix_ms / 1000)

    def view_of(self, request: web.Request, came: Came, url: str) -> Hit:
        """A page of the operator's sites, seen by whom a click led there."""
        return self._hit(request, Kind.PAGE, job_id=came.job_id, link_id=came.second, how=url)

    def hit_of(self, request: web.Request, kind: Kind, token: ContactToken, how: str) -> Hit:
        """A request on an address that is one person's."""
        return self._hit(request, kind, contact_id=token.contact_id, program_id=token.program_id, how=how)

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
            self.moment(),
            kind,
            Method(request.method),
            reader_of(request.headers),
            peer[0] if peer else "",
            request.headers.getall("X-Forwarded-For", []),
            job_id=job_id,
            link_id=link_id,
            contact_id=contact_id,
            program_id=program_id,
            how=how,
        )


# Most of those taken together get one of few answers.
@lru_cache(maxsize=2)
def _picture(method: Method, unix: int) -> bytes:
    body = PIXEL if method is Method.GET else b""
    return b"%b%b\r\n\r\n%b" % (_PIXEL_HEAD, date_of(unix), body)


# Not remembered: many locations are one person's, by values or by the parameter that says who comes.
def _redirect(method: Method, location: str, unix: int) -> bytes:
    length = "Content-Length: 0\r\n" if method is Method.GET else ""
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n{_FOUND}{length}Date: "
    return b"%b%b\r\n\r\n" % (head.encode(), date_of(unix))


# The plain requests of an application are answered by its site.
_SITE = web.AppKey("_SITE", _Site)


async def _robots(_: web.Request) -> web.Response:
    return web.Response(text="User-agent: *\nDisallow: /\n")


async def _favicon(_: web.Request) -> web.Response:
    return web.Response(status=204, headers={"Cache-Control": "max-age=86400"})


async def _without_server(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)
