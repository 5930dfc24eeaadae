"""A mailbox on loopback: one person's real mails in the browser, and what her clicks do.

Mails are shown as they were received: HTML in a sandboxed frame that runs no script,
headers, source, and what dkimpy says. Score and state are read from the database.
"""

import html
import re
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web

from mtad.base.db import AWAY, Pool
from mtad.lab import store
from mtad.lab.letter import read_letter
from mtad.lab.sink import Received, Sink
from mtad.lab.verify import Verdict, Verifier

_PAGE = Path(__file__).with_name("files") / "mailbox.html"

_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)

# A frame that may load pictures (that is what opening a mail is) and open links in new tabs.
_FRAME_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox;"
    " default-src 'none'; img-src http: https: data:; style-src 'unsafe-inline'"
)

_LANDING = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>You clicked</title><style>body{{font:17px/1.6 system-ui,sans-serif;max-width:34em;margin:15vh auto;padding:0 1em;
color:#1d2330}}code{{background:#f0f1f6;padding:2px 6px;border-radius:4px}}a{{color:#3d5afe}}</style>
<h1>You clicked.</h1><p>The tracker wrote your click to its journal, synced it to disk and sent you here, to
<code>{path}</code>. It counts once it has settled, about a second from now.</p>
<p><a href="/">Back to your mailbox</a></p>
"""

_SENTENCES = {
    None: "Nothing has been sent to you yet.",
    "active": "You are in the audience. Open a mail, click a link: {missing} points to go.",
    "engaged": "You responded: the rest of the series will not be sent to you, newsletters go on.",
    "reactivated": "You came back: from now on you are in the audience again.",
    "inactive": "You stayed silent, so you are left alone. Open or click any mail, and you are back.",
    "unsubscribed": "You unsubscribed. Nothing that was queued for you goes out.",
}


class Listed(msgspec.Struct, frozen=True):
    """One mail in the list."""

    number: int
    subject: str
    sender: str
    at: str
    signed: bool
    one_click: bool
    why: str


class Now(msgspec.Struct, frozen=True):
    """What the page shows, asked for again and again."""

    name: str
    address: str
    state: str
    score: int
    threshold: int
    line: str
    story: list[tuple[str, str]]
    mails: list[Listed]


class Mailbox:
    """Serves the mailbox of `address` on 127.0.0.1 while the block lasts; `url` is its page."""

    def __init__(
        self, sink: Sink, pool: Pool, verifier: Verifier, *, name: str, address: str, stream: str, threshold: int
    ) -> None:
        self.url = ""
        self._sink = sink
        self._pool = pool
        self._verifier = verifier
        self._name = name
        self._address = address
        self._stream = stream
        self._threshold = threshold
        self._verdicts: dict[int, Verdict] = {}
        self._http: aiohttp.ClientSession | None = None
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/state", self._state)
        app.router.add_get("/shop/{path:.*}", self._landing)
        app.router.add_get("/mail/{number:[0-9]+}/{view:html|headers|source}", self._mail)
        app.router.add_post("/mail/{number:[0-9]+}/leave", self._leave)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=("User-Agent",))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http:
            await self._http.close()
        await self._runner.cleanup()

    def _mails(self) -> list[Received]:
        """Hers, oldest first."""
        return [copy for copy in self._sink.messages if copy.recipient.lower() == self._address]

    def _chosen(self, request: web.Request) -> Received:
        mails = self._mails()
        number = int(request.match_info["number"])
        if number >= len(mails):
            raise web.HTTPNotFound(text="There is no such mail.")
        return mails[number]

    def _verdict(self, number: int, copy: Received) -> Verdict:
        if number not in self._verdicts:
            self._verdicts[number] = self._verifier.verify(copy.message)
        return self._verdicts[number]

    async def _page(self, _: web.Request) -> web.Response:
        text = _PAGE.read_text(encoding="utf-8")
        return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})

    async def _landing(self, request: web.Request) -> web.Response:
        return web.Response(text=_LANDING.format(path=html.escape(request.path)), content_type="text/html")

    async def _state(self, _: web.Request) -> web.Response:
        try:
            async with self._pool.acquire() as conn:
                her = await store.person(conn, self._address, self._stream)
                story = await store.story_of_person(conn, her.contact_id) if her else []
        except AWAY:
            raise web.HTTPServiceUnavailable(text="The database is away.") from None
        return web.json_response(msgspec.to_builtins(self._now(her, story)))

    def _now(self, her: store.Person | None, story: list[tuple[datetime, str]]) -> Now:
        state, score = state_shown(her), her.score if her else 0
        missing = max(0, self._threshold - score)
        mails = []
        for number, copy in enumerate(self._mails()):
            verdict = self._verdict(number, copy)
            mails.append(
                Listed(
                    number=number,
                    subject=read_letter(copy.message).subject,
                    sender=copy.header("From"),
                    at=f"{copy.at:%H:%M:%S}",
                    signed=verdict.signed,
                    one_click=verdict.one_click,
                    why=verdict.why,
                )
            )
        return Now(
            name=self._name,
            address=self._address,
            state=state or "new",
            score=score,
            threshold=self._threshold,
            line=_SENTENCES[state].format(missing=missing),
            story=[(f"{at:%H:%M:%S}", text) for at, text in story],
            mails=mails[::-1],
        )

    async def _mail(self, request: web.Request) -> web.Response:
        copy = self._chosen(request)
        head, _, _ = copy.message.partition(b"\r\n\r\n")
        match request.match_info["view"]:
            case "html":
                letter = read_letter(copy.message)
                body = letter.html or f"<pre>{html.escape(letter.text)}</pre>"
                # Links of a mail open beside it, as in every mail program.
                base = '<base target="_blank">'
                found = _HEAD.search(body)
                at = found.end() if found else 0
                return web.Response(
                    text=body[:at] + base + body[at:],
                    content_type="text/html",
                    headers={"Content-Security-Policy": _FRAME_POLICY, "Referrer-Policy": "no-referrer"},
                )
            case "headers":
                return _plain(head)
            case _:
                return _plain(copy.message)

    async def _leave(self, request: web.Request) -> web.Response:
        """What a mailbox provider does when its user presses "unsubscribe": RFC 8058 section 3.2."""
        target = read_letter(self._chosen(request).message).one_click
        if target is None or self._http is None:
            raise web.HTTPBadRequest(text="no one-click address")
        form = {"List-Unsubscribe": "One-Click"}
        try:
            async with self._http.post(target, data=form, allow_redirects=False) as answer:
                status = answer.status
        except aiohttp.ClientError as error:
            raise web.HTTPBadGateway(text=type(error).__name__) from None
        if status != 200:
            raise web.HTTPBadGateway(text=f"answered {status}")
        return web.Response(text="unsubscribed")


def state_shown(her: store.Person | None) -> str | None:
    """The one word for the page; lost permission hides the engagement state."""
    if her is None:
        return None
    if her.subscription == "unsubscribed":
        return "unsubscribed"
    return "inactive" if her.state in ("cooling", "trying", "resting") else her.state


def _plain(content: bytes) -> web.Response:
    headers: dict[str, Any] = {"X-Content-Type-Options": "nosniff", "Content-Type": "text/plain; charset=utf-8"}
    return web.Response(body=content, headers=headers)
