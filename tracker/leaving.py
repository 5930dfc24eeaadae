"""The way out: the one click of mail programs (RFC 8058), and the page with the button.

Whoever POSTs to a valid address leaves, whatever the body says: nobody holds that address
but the recipient and her mail program, which sends no cookie and maybe no user agent. The
body only chooses between a page and a line of text.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from aiohttp import web

from tracker import tokens
from tracker.answers import body, committed, language_of, looked_up, page
from tracker.desk import Desk, Person
from tracker.hits import Hit, Kind
from tracker.ingest import Unsubscribe
from tracker.noting import Noting
from tracker.pages import Page
from tracker.tokens import ContactToken, Keys

# A request as a hit of this kind on somebody's address; `how` it was left.
HitOf = Callable[[web.Request, Kind, ContactToken, str], Hit]

_ONE_CLICK = {
    "Cache-Control": "no-store, no-cache, must-revalidate, max-age=0, private",
    "Pragma": "no-cache",
    "Expires": "0",
    "X-Robots-Tag": "noindex",
    "Referrer-Policy": "no-referrer",
}


class Leaving:
    """The handlers."""

    def __init__(
        self,
        *,
        keys: Keys,
        noting: Noting,
        hit: HitOf,
        unsubscribe: Unsubscribe,
        desk: Desk | None,
        places: asyncio.Semaphore,
    ) -> None:
        self._keys = keys
        self._noting = noting
        self._hit = hit
        self._unsubscribe = unsubscribe
        self._desk = desk
        self._places = places

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/u/{token}", self.look), web.post("/u/{token}", self.leave)]

    async def look(self, request: web.Request) -> web.Response:
        """The page with the button; looking at it changes nothing."""
        token = tokens.read_contact_token(self._keys, request.match_info["token"])
        if token is None:
            return page(request, Page.BAD_LINK, 404)
        if not token.contact_id:
            return page(request, Page.NOBODY, 200)
        await self._noting.note(self._hit(request, Kind.LOOK, token, ""))
        return await self._page(request, Page.ASK, 200, token)

    async def leave(self, request: web.Request) -> web.Response:
        """One click of a mail program, or of the button: journalled, committed, answered.

        A bad token, or one of a preview, is answered with 2xx, because trying again would
        not mend it (RFC 8058 section 3.2); an absent database with 503, because it would.
        """
        by_button = b"confirm=1" in (await body(request)).split(b"&")
        token = tokens.read_contact_token(self._keys, request.match_info["token"])
        if token is None or not token.contact_id:
            which = Page.NOBODY if token else Page.BAD_LINK
            return page(request, which, 200) if by_button else _line(200, "nothing to do\n")
        hit = self._hit(request, Kind.UNSUBSCRIBE, token, "page" if by_button else "one_click")
        journalled = await self._noting.note(hit)
        left = await committed(self._left(hit), "an unsubscribe")
        if not by_button:
            return _line(200, "unsubscribed\n") if left else _line(503, "try again later\n")
        if left:
            return await self._page(request, Page.DONE, 200, token)
        return page(request, Page.NOTED, 200) if journalled else page(request, Page.LATER, 503)

    async def _left(self, hit: Hit) -> bool:
        await self._unsubscribe(
            event_id=hit.event_id, contact_id=hit.contact_id, program_id=hit.program_id, at=hit.at, how=hit.how
        )
        return True

    async def _page(self, request: web.Request, which: Page, status: int, token: ContactToken) -> web.Response:
        """In the person's own language and with the way to her preferences, if the database says them soon."""
        person: Person | None = None
        if self._desk is not None:
            person = await looked_up(partial(self._desk.person, token.contact_id, token.program_id), self._places)
        if person is None:
            return page(request, which, status)
        link = tokens.preferences_token(self._keys, token.contact_id, token.program_id)
        return page(
            request,
            which,
            status,
            language=language_of(request, person.language),
            stream=person.title(),
            preferences=f"../p/{link}",
        )


def _line(status: int, text: str) -> web.Response:
    headers = {**_ONE_CLICK, "Retry-After": "60"} if status == 503 else _ONE_CLICK
    return web.Response(status=status, text=text, headers=headers)
