"""Page views of people who agreed: a script for the operator's sites, and where it tells.

`GET /v.js` is the script, `POST /v` takes `{"url", "token", "visitor", "consent"}` from the
sites that are listed. Without consent nothing is read and nothing kept. The parameter that a
click handed over is exchanged, once, for what the site's own cookie holds from then on.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from aiohttp import web

from mtad.base.clock import Clock
from mtad.base.db import AWAY
from mtad.base.ids import uuid7
from tracker.answers import body
from tracker.handover import Came, Handover
from tracker.hits import Hit
from tracker.limits import Limits
from tracker.noting import Noting

log = logging.getLogger("mtad.tracker")

SCRIPT = Path(__file__).with_name("script.js").read_bytes()

# Without query and fragment, which may hold anything about anybody.
MOST_URL = 500

# Of one visitor: so many views at once, and then one each so many seconds. By visitor and not by
# address, behind which a whole office may stand.
BURST = 60
REFILL = 2.0

# Uses a token of a job up: False when it was, or when the person may not be measured.
Redeem = Callable[[str, int, UUID], Awaitable[bool]]


class View(msgspec.Struct):
    """What the script says."""

    url: str
    token: str = ""
    visitor: str = ""
    consent: bool = False


# A request as a hit: by whom, of an address.
HitOf = Callable[[web.Request, Came, str], Hit]


class PageViews:
    """The handlers."""

    def __init__(self, *, handover: Handover, noting: Noting, hit: HitOf, redeem: Redeem, clock: Clock) -> None:
        self._handover = handover
        self._noting = noting
        self._hit = hit
        self._redeem = redeem
        self._clock = clock
        self._limits = Limits(burst=BURST, refill=REFILL)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v.js", self.script), web.post("/v", self.view)]

    async def script(self, _: web.Request) -> web.Response:
        """The script for the operator's sites."""
        return web.Response(
            body=SCRIPT,
            content_type="text/javascript",
            charset="utf-8",
            headers={
                "Cache-Control": "public, max-age=3600",
                "Cross-Origin-Resource-Policy": "cross-origin",
                "X-Content-Type-Options": "nosniff",
            },
        )

    async def view(self, request: web.Request) -> web.Response:
        """Note a view of somebody known; who was handed over becomes known."""
        origin = request.headers.get("Origin", "")
        if not (_is_origin(origin) and self._handover.lists(origin)):
            return web.Response(status=403)
        status, visitor = await self._seen(request)
        headers = {"Access-Control-Allow-Origin": origin, "Vary": "Origin", "Cache-Control": "no-store"}
        if not visitor:
            return web.Response(status=status, headers=headers)
        answer = msgspec.json.encode({"visitor": visitor})
        return web.Response(status=status, body=answer, content_type="application/json", headers=headers)

    async def _seen(self, request: web.Request) -> tuple[int, str]:
        """The status of the answer, and what the cookie of whoever becomes known holds."""
        try:
            said = msgspec.json.decode(await body(request), type=View)
        except (ValueError, RecursionError):  # the first is that of msgspec, and of what is no UTF-8
            return 400, ""
        url = _bare(said.url)
        now = self._clock.now().timestamp()
        handed_over = self._handover.read(said.token, now)
        known = self._handover.read_visitor(said.visitor, now)
        came = handed_over or known
        if not said.consent or url is None or not self._handover.lists(url) or came is None:
            return 204, ""
        if not self._limits.take(str(came.job_id), self._clock.monotonic()):
            return 429, ""
        if handed_over:
            event_id = uuid7(int(now * 1000), os.urandom(10))
            try:
                if not await self._redeem(said.token, handed_over.job_id, event_id):
                    handed_over, came = None, known  # used before, or of somebody who may not be measured
            except AWAY as error:
                log.warning("a visitor stays unknown", extra={"why": str(error) or type(error).__name__})
                return 503, ""
        if came:
            await self._noting.note(self._hit(request, came, url))
        return (200, self._handover.visitor(handed_over)) if handed_over else (204, "")


def _is_origin(text: str) -> bool:
    """Whether that is scheme, host and port as browsers write them, so that it may be said again in a header."""
    return text.isascii() and _bare(text) == f"{text}/"


def _bare(url: str) -> str | None:
    """An address without query, fragment and whoever stands before its host; None when it is none."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    if not parts.hostname or not url.isprintable():
        return None
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path or '/'}"[:MOST_URL]
