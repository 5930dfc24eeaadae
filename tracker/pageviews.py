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
from tracker.handover import Handover
from tracker.hits import Hit
from tracker.noting import Noting

log = logging.getLogger("mtad.tracker")

SCRIPT = Path(__file__).with_name("script.js").read_bytes()

# Without query and fragment, which may hold anything about anybody.
MOST_URL = 500

# Uses a token of a job up: False when it was, or when the person may not be measured.
Redeem = Callable[[str, int, UUID], Awaitable[bool]]


class View(msgspec.Struct):
    """What the script says."""

    url: str
    token: str = ""
    visitor: str = ""
    consent: bool = False


# A request as a hit: on a job, of an address.
HitOf = Callable[[web.Request, int, str], Hit]


class PageViews:
    """The handlers."""

    def __init__(self, *, handover: Handover, noting: Noting, hit: HitOf, redeem: Redeem, clock: Clock) -> None:
        self._handover = handover
        self._noting = noting
        self._hit = hit
        self._redeem = redeem
        self._clock = clock

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
        if not self._handover.lists(origin):
            return web.Response(status=403)
        headers = {"Access-Control-Allow-Origin": origin, "Vary": "Origin", "Cache-Control": "no-store"}
        try:
            said = msgspec.json.decode(await request.read(), type=View)
        except msgspec.DecodeError:
            return web.Response(status=400, headers=headers)
        url = _bare(said.url)
        if not said.consent or url is None or not self._handover.lists(url):
            return web.Response(status=204, headers=headers)
        try:
            job_id = await self._handed_over(said.token) if said.token else None
        except AWAY as error:
            log.warning("a visitor stays unknown", extra={"why": str(error) or type(error).__name__})
            return web.Response(status=503, headers=headers)
        if known := job_id or self._handover.read_visitor(said.visitor):
            await self._noting.note(self._hit(request, known, url))
        if job_id is None:
            return web.Response(status=204, headers=headers)
        body = msgspec.json.encode({"visitor": self._handover.visitor(job_id)})
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _handed_over(self, token: str) -> int | None:
        """The job of a parameter that is used for the first time."""
        now = self._clock.now().timestamp()
        job_id = self._handover.read(token, now)
        if job_id and await self._redeem(token, job_id, uuid7(int(now * 1000), os.urandom(10))):
            return job_id
        return None


def _bare(url: str) -> str | None:
    """An address without query, fragment and whoever stands before its host; None when it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if not parts.hostname or not url.isprintable():
        return None
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path or '/'}"[:MOST_URL]
