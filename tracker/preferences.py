"""What a person gets, and less of it: the page behind a link of one's own.

The link may have been forwarded: the address is masked, leaving is always possible, and
getting more than now only by taking back what was done here: leaving within a day, a break until
it is over. All else is a new double opt-in. Leaving is in the journal before it is answered, as on
the page of one's mail: with the database away it is noted.
"""

import asyncio
from functools import partial

from aiohttp import web
from prometheus_client import Counter

from mtad.base.clock import Clock
from tracker import tokens
from tracker.answers import Visitors, committed, fields, found, html, language_of, page
from tracker.desk import Act, Desk
from tracker.hits import PREFERENCES, Kind
from tracker.leaving import HitOf
from tracker.limits import FormLimits
from tracker.noting import Noting
from tracker.origin import household
from tracker.pages import Page, render_preferences
from tracker.tokens import Keys
from tracker.words import WORDS, Words

ACTS = Counter("mtad_tracker_acts_total", "What people changed on the page of preferences", ["act"])


class Preferences:
    """The handlers."""

    def __init__(
        self,
        *,
        desk: Desk,
        keys: Keys,
        noting: Noting,
        hit: HitOf,
        visitors: Visitors,
        places: asyncio.Semaphore,
        clock: Clock,
    ) -> None:
        self._desk = desk
        self._keys = keys
        self._noting = noting
        self._hit = hit
        self._visitors = visitors
        self._places = places
        self._clock = clock
        self._limits = FormLimits()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/p/{token}", self.look), web.post("/p/{token}", self.act)]

    async def look(self, request: web.Request) -> web.Response:
        """Everything as it is; looking at it changes nothing."""
        return await self._page(request)

    async def act(self, request: web.Request) -> web.Response:
        """One button: done, committed, and the page again with what has become of it."""
        given = await fields(request)
        token = tokens.read_preferences_token(self._keys, request.match_info["token"])
        if token is None or not token.contact_id:
            return await self._page(request)
        try:
            act = Act(given.get("act", ""))
            stream = int(given["stream"]) if "stream" in given else None
        except ValueError:
            return await self._page(request)
        visitor = self._visitors.visitor(request)
        person = str(token.contact_id)
        # By person and whoever stands there, so that whom the mail was forwarded to keeps nobody from her own page.
        # Leaving is noted however often: who has many streams may leave them one by one.
        by = f"{person} {household(visitor.ip, 48)}"
        if act is not Act.LEAVE and not self._limits.take(by, person, self._clock.monotonic()):
            ACTS.labels(act="slow").inc()
            return page(request, Page.SLOW, 429)
        hit = self._hit(request, Kind.UNSUBSCRIBE, token, PREFERENCES if stream is None else f"{PREFERENCES} {stream}")
        journalled = act is Act.LEAVE and await self._noting.note(hit)
        done = await committed(
            self._desk.act(act, token.contact_id, stream, visitor, event_id=hit.event_id, at=hit.at), "a preference"
        )
        if done is None:
            return page(request, Page.NOTED, 200) if journalled else page(request, Page.LATER, 503)
        if done:
            ACTS.labels(act=act).inc()
        return await self._page(request, (act, done))

    async def _page(self, request: web.Request, after: tuple[Act, bool] | None = None) -> web.Response:
        token = tokens.read_preferences_token(self._keys, request.match_info["token"])
        if token is None:
            return page(request, Page.BAD_LINK, 404)
        if not token.contact_id:
            return page(request, Page.NOBODY, 200)
        ask = partial(self._desk.person, token.contact_id, token.program_id)
        there = await found(ask, self._places, "a look at preferences")
        if there is None:
            return page(request, Page.LATER, 503)
        if not there:  # erased: there is nothing left to choose
            return page(request, Page.BAD_LINK, 404)
        (person,) = there
        language = language_of(request, person.language)
        said = ""
        if after is not None:
            said = _said(*after, WORDS[language])
        return html(render_preferences(person, language, said), 200, language)


def _said(act: Act, done: bool, words: Words) -> str:
    """What a button came to."""
    if act is Act.RETURN:
        return words.asked_again if done else words.asked_before
    return words.done if done else words.nothing_done
