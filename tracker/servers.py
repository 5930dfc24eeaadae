"""`POST /events`: what servers tell, durable before it is answered.

200  {"accepted": 3, "repeated": 1, "errors": [{"index": 2, "id": "…", "error": "…"}]}
400  the body as a whole cannot be read          401  no token, or a wrong one
408  sent too slowly                             413  too long
503  no database: send the same again later
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from aiohttp import web

from mtad.base.clock import Clock
from mtad.base.db import AWAY
from mtad.base.ids import uuid7
from tracker.bearer import EventKeys
from tracker.intake import MOST_ITEMS, Told, read_items
from tracker.occurrences import Taken

log = logging.getLogger("mtad.tracker")

# A thousand items of 2 kB. Read only of who has a token.
MOST_BODY = 2 * 1024 * 1024

# How long a body may take; seconds.
BODY_PATIENCE = 60.0

# Batches that are written at a time; others wait, for mail needs the connections.
MOST_AT_ONCE = 2

TakeIn = Callable[[str, Sequence[Told]], Awaitable[Taken]]


class Servers:
    """The handler; `keys` None: nobody may tell us anything."""

    def __init__(self, keys: EventKeys | None, take_in: TakeIn, clock: Clock) -> None:
        self._keys = keys
        self._take_in = take_in
        self._clock = clock
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/events", self.events)]

    async def events(self, request: web.Request) -> web.Response:
        """Take a batch in."""
        source = self._keys.source_of(request.headers.get("Authorization", "")) if self._keys else None
        if source is None:
            return _answer(401, {"error": "a bearer token is needed"}, {"WWW-Authenticate": "Bearer"})
        body = await _body(request)
        if body is None:
            return _answer(413, {"error": f"the body: at most {MOST_BODY:,} octets"})
        now = self._clock.now()
        ids = [uuid7(int(now.timestamp() * 1000), os.urandom(10)) for _ in range(MOST_ITEMS)]
        try:
            told, refused = read_items(body, now, ids)
        except ValueError as error:
            return _answer(400, {"error": str(error)})
        try:
            async with self._places:
                taken = await self._take_in(source, told) if told else Taken(0, 0, [])
        except AWAY as error:
            log.warning("events of a server are refused", extra={"why": str(error) or type(error).__name__})
            return _answer(503, {"error": "try again later"}, {"Retry-After": "60"})
        errors = sorted([*refused, *taken.errors], key=lambda one: one.index)
        return _answer(200, msgspec.structs.replace(taken, errors=errors))


async def _body(request: web.Request) -> bytes | None:
    """All of it; None when it is too long. Beyond what public routes may send, hence not `request.read`."""
    if (request.content_length or 0) > MOST_BODY:
        return None
    parts: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            async for part in request.content.iter_chunked(64 * 1024):
                total += len(part)
                if total > MOST_BODY:
                    return None
                parts.append(part)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return b"".join(parts)


def _answer(status: int, value: object, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(value),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
