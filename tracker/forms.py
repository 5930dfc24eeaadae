"""Signing up: the hosted form, the POST of all forms, and the page that confirms.

GET and HEAD change nothing. The answer to a POST does not depend on whether the address
is known: a form tells nobody who gets our mail.
"""

import asyncio
import os
import re
from collections.abc import Mapping
from functools import partial

from aiohttp import web
from prometheus_client import Counter

from mtad.base.clock import Clock
from mtad.base.ids import uuid7
from tracker import tokens
from tracker.answers import Visitors, committed, fields, found, html, language_of, looked_up, page
from tracker.desk import Confirmed, Desk, Form, Visitor
from tracker.limits import FormLimits
from tracker.origin import household
from tracker.pages import NOTHING_TYPED, Page, Typed, Wrong, known_language, render_form
from tracker.tokens import Keys

FORMS = Counter("mtad_tracker_forms_total", "Forms that were posted, by what came of it", ["outcome"])

# As the names of forms are; anything else is asked of nobody.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

_CONFIRMED = {
    Confirmed.DONE: (Page.CONFIRMED, 200),
    Confirmed.USED: (Page.USED, 200),
    Confirmed.UNKNOWN: (Page.GONE, 404),
}


class Forms:
    """The handlers."""

    def __init__(self, desk: Desk, keys: Keys, visitors: Visitors, places: asyncio.Semaphore, clock: Clock) -> None:
        self._desk = desk
        self._keys = keys
        self._visitors = visitors
        self._places = places
        self._clock = clock
        self._limits = FormLimits()
        self._confirming = FormLimits()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/s/{form}", self.show),
            web.post("/subscribe", self.subscribe),
            web.get("/confirm/{token}", self.look),
            web.post("/confirm/{token}", self.confirm),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """The hosted form."""
        there = await self._known(request.match_info["form"])
        if there is None:
            return page(request, Page.LATER, 503)
        if not there:
            return page(request, Page.BAD_LINK, 404)
        return self._form(request, there[0], 200, action="../subscribe")

    async def subscribe(self, request: web.Request) -> web.Response:
        """What any of our forms posts: 200 when it is durable that this address will be asked."""
        given = await fields(request)
        visitor = self._visitors.visitor(request)
        if self._too_often(visitor.ip):
            return _slow(request)
        if given.get("website"):
            # A robot filled in what nobody sees. It is told what everybody is told.
            FORMS.labels(outcome="robot").inc()
            return page(request, Page.CHECK_MAIL, 200)
        allowed = await committed(self._desk.allow(household(visitor.ip), household(visitor.ip, 48)), "a sign-up")
        there = await self._known(given.get("form", "")) if allowed else None
        if allowed is False:
            return _slow(request)
        if there is None:
            return page(request, Page.LATER, 503)
        if not there:
            return page(request, Page.BAD_LINK, 404)
        return await self._ask(request, there[0], given, visitor)

    async def _known(self, name: str) -> tuple[Form] | tuple[()] | None:
        """The form of a name, if there is one; None when the database is away."""
        if not _NAME.fullmatch(name):
            return ()
        return await found(partial(self._desk.form, name), self._places, "a look at a form")

    def _too_often(self, address: str | None) -> bool:
        """By what this worker alone has seen: a flood is refused without asking the database."""
        return not self._limits.take(household(address), household(address, 48), self._clock.monotonic())

    async def _ask(self, request: web.Request, form: Form, given: Mapping[str, str], visitor: Visitor) -> web.Response:
        typed = Typed(given.get("email", "").strip(), "consent" in given, "measuring" in given)
        if given.get("version") != str(form.version):
            FORMS.labels(outcome="changed").inc()
            # Nobody has agreed to words that were not shown, so the boxes are empty again.
            return self._form(request, form, 422, typed=Typed(typed.email), wrong=Wrong.CHANGED)
        if not typed.agreed:
            FORMS.labels(outcome="refused").inc()
            return self._form(request, form, 422, typed=typed, wrong=Wrong.CONSENT)
        try:
            done = await committed(
                self._desk.subscribe(form.name, form.version, typed.email, visitor, measuring=typed.measuring),
                "a sign-up",
            )
        except ValueError:
            FORMS.labels(outcome="refused").inc()
            return self._form(request, form, 422, typed=typed, wrong=Wrong.EMAIL)
        if not done:  # the database is away, or the form was changed in this very moment
            return page(request, Page.LATER, 503)
        FORMS.labels(outcome="asked").inc()
        return page(request, Page.CHECK_MAIL, 200, language=known_language(form.language))

    async def look(self, request: web.Request) -> web.Response:
        """The page with the button; looking at it confirms nothing."""
        job_id = tokens.read_confirm_token(self._keys, request.match_info["token"])
        if job_id is None:
            return page(request, Page.BAD_LINK, 404)
        if not job_id:
            return page(request, Page.NOBODY, 200)
        there = await found(partial(self._desk.asking, job_id), self._places, "a look at a confirmation")
        if there is None:  # without the words nobody can agree to them
            return page(request, Page.LATER, 503)
        if not there:
            return page(request, Page.GONE, 404)
        (asking,) = there
        language = language_of(request, asking.language)
        if asking.came_to is not None:
            return page(request, *_CONFIRMED[asking.came_to], language=language)
        quoted = [words for words in (asking.consent, asking.measuring) if words]
        return page(request, Page.CONFIRM, 200, language=language, quoted=quoted)

    async def confirm(self, request: web.Request) -> web.Response:
        """The button."""
        await fields(request)
        job_id = tokens.read_confirm_token(self._keys, request.match_info["token"])
        if not job_id:
            return page(request, Page.BAD_LINK if job_id is None else Page.NOBODY, 404 if job_id is None else 200)
        visitor = self._visitors.visitor(request)
        if not self._confirming.take(f"{job_id} {household(visitor.ip, 48)}", str(job_id), self._clock.monotonic()):
            return _slow(request)
        language = await self._language(request, job_id)
        at = self._clock.now()
        event_id = uuid7(int(at.timestamp() * 1000), os.urandom(10))
        confirmed = await committed(self._desk.confirm(job_id, visitor, event_id=event_id, at=at), "a confirmation")
        if confirmed is None:
            return page(request, Page.LATER, 503)
        return page(request, *_CONFIRMED[confirmed], language=language)

    async def _language(self, request: web.Request, job_id: int) -> str:
        """That of the form and of the mail, if the database says it soon."""
        asking = await looked_up(partial(self._desk.asking, job_id), self._places)
        return language_of(request, asking.language if asking else None)

    def _form(
        self,
        request: web.Request,
        form: Form,
        status: int,
        *,
        action: str = "subscribe",
        typed: Typed = NOTHING_TYPED,
        wrong: Wrong | None = None,
    ) -> web.Response:
        language = language_of(request, form.language)
        return html(render_form(form, language, action=action, typed=typed, wrong=wrong), status, language)


def _slow(request: web.Request) -> web.Response:
    FORMS.labels(outcome="slow").inc()
    return page(request, Page.SLOW, 429)
