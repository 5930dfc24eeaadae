"""What the pages of people have in common: headers, languages, bodies, patience."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_network
from typing import TypeVar
from urllib.parse import parse_qs

from aiohttp import web

from mtad.base.db import AWAY
from tracker.desk import Visitor
from tracker.origin import Origins
from tracker.pages import POLICY, Page, known_language, language_for, render

log = logging.getLogger("mtad.tracker")

T = TypeVar("T")

# A form of a few fields; RFC 8058 needs 26 bytes, multipart a few hundred.
MOST_BODY = 4 * 1024

# How long a client may take to send its body, and how long it waits for our database; seconds.
BODY_PATIENCE = 10.0
COMMIT_PATIENCE = 10.0

# How long a person waits for what would only be nicer: a name, a language.
LOOK_PATIENCE = 0.25

PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Vary": "Accept-Language",
}


class Visitors:
    """Who stands before us, behind trusted proxies."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._origins = Origins([ip_network(network) for network in trusted_proxies])

    def visitor(self, request: web.Request) -> Visitor:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        return Visitor(
            ip=self._origins.address(peer[0] if peer else "", request.headers.getall("X-Forwarded-For", [])),
            agent=_printable(request.headers.get("User-Agent", "")),
            page=_printable(request.headers.get("Referer", "")),
        )


def page(
    request: web.Request,
    which: Page,
    status: int,
    *,
    language: str | None = None,
    quoted: Sequence[str] = (),
    **more: str,
) -> web.Response:
    """A page of a heading and a sentence, in `language` or the browser's; the rest as `pages.render` has it."""
    speaks = language or language_of(request)
    return html(render(which, speaks, quoted=quoted, **more), status, speaks)


def html(text: str, status: int, language: str) -> web.Response:
    """A whole page that nobody may keep, index or frame."""
    headers = {**PAGE_HEADERS, "Content-Language": language}
    if status in (429, 503):
        headers["Retry-After"] = "60"
    return web.Response(status=status, text=text, content_type="text/html", charset="utf-8", headers=headers)


def language_of(request: web.Request, locale: str | None = None) -> str:
    """The person's own language, if we speak it, else the browser's."""
    return known_language(locale) or language_for(request.headers.get("Accept-Language", ""))


async def body(request: web.Request) -> bytes:
    """All of it, at most MOST_BODY; who is slower than BODY_PATIENCE is not waited for."""
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


async def fields(request: web.Request) -> dict[str, str]:
    """The fields of a form, each once; of what is no form, none."""
    text = (await body(request)).decode("utf-8", "replace")
    try:
        found = parse_qs(text, keep_blank_values=True, max_num_fields=16)
    except ValueError:
        return {}
    return {name: _printable(values[-1]) for name, values in found.items()}


async def committed(work: Awaitable[T], what: str) -> T | None:
    """What the database did within COMMIT_PATIENCE; None when it is away, or failed: nothing was done then."""
    try:
        async with asyncio.timeout(COMMIT_PATIENCE):
            return await work
    except AWAY as error:
        log.warning("%s has to be tried again", what, extra={"why": str(error) or type(error).__name__})
    except ValueError:
        raise
    except Exception:
        log.exception("%s failed", what)
    return None


async def looked_up(ask: Callable[[], Awaitable[T]], places: asyncio.Semaphore) -> T | None:
    """What would make a page nicer, if the database says it soon. Few ask at once: mail goes first."""
    try:
        async with asyncio.timeout(LOOK_PATIENCE), places:
            return await ask()
    except AWAY:
        pass
    except Exception:
        log.exception("what would make a page nicer cannot be asked")
    return None


async def found(
    ask: Callable[[], Awaitable[T | None]], places: asyncio.Semaphore, what: str
) -> tuple[T] | tuple[()] | None:
    """What a page cannot do without, asked in turn: it alone, or nothing; None when the database is away."""

    async def in_turn() -> tuple[T] | tuple[()]:
        async with places:
            answer = await ask()
        return () if answer is None else (answer,)

    return await committed(in_turn(), what)


def _printable(text: str) -> str:
    """Without control characters and the surrogates in which aiohttp hands on what is not UTF-8."""
    return "".join(character for character in text if character.isprintable())
