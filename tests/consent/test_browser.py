"""Every page in Chromium: accessible by axe-core's rules, right on a phone, usable by keyboard and without scripts."""

import json
import os
from datetime import UTC, datetime
from importlib.resources import files

from aiohttp import web

from tests.consent.chromium import running_browser
from tests.consent.conftest import Office, serving
from tests.tracker.made import KEYS
from tracker import tokens
from tracker.answers import html
from tracker.desk import Form, Person, Subscription
from tracker.pages import Page, Typed, Wrong, render, render_form, render_preferences, render_snippet
from tracker.words import WORDS

PHONE, DESKTOP = 360, 1280

# Where to keep pictures of all pages, to look at.
PICTURES = os.environ.get("MTAD_PICTURES")

LONG = "Donaudampfschifffahrtsgesellschaftskapitänsbriefe <b>&amp;</b>"
AXE = """axe.run(document, {resultTypes: ['violations', 'incomplete']})
 .then(found => [...found.violations, ...found.incomplete].map(one => [one.id, one.nodes.map(node => node.html)]))"""
LAYOUT = """({wide: document.documentElement.scrollWidth - innerWidth, lang: document.documentElement.lang,
 small: [...document.querySelectorAll('button,input[type=email]')].filter(e => e.offsetHeight < 44).length,
 h1: document.querySelectorAll('h1').length, title: document.title})"""

PERSON = Person(
    "a.very.long.address.of.somebody@some.very.long.domain.example.com",
    "en",
    1,
    [
        Subscription(1, "The Monday letter", True, None, True, False, True),
        Subscription(2, LONG, True, datetime(2026, 12, 23, tzinfo=UTC), False, True, True),
        Subscription(3, "Offers", False, None, True, True, True),
        Subscription(4, "Courses", False, None, True, False, True),
        Subscription(5, "Concerts", True, datetime(2026, 12, 23, tzinfo=UTC), True, False, True),
    ],
)
NOBODY = Person("ann@reader.test", "en", 0, [])
SIGN_UP = Form(
    "site",
    1,
    "en",
    "",
    "The Monday letter",
    "One mail a week.",
    "Yes, Example GmbH may send me mail. " * 3,
    "Measure me.",
)


# As it stands on a page of somebody else's.
HOST = """<!doctype html><html lang="{language}"><meta name="viewport" content="width=device-width"><title>Join</title>
<main><h1>Join</h1>{snippet}</main>"""


def every_page(language: str) -> dict[str, str]:
    """By a name for it."""
    pages = {page.value: render(page, language) for page in Page}
    pages["confirm"] = render(Page.CONFIRM, language, quoted=[SIGN_UP.consent, LONG])
    pages["leave known"] = render(Page.ASK, language, stream=LONG, preferences="../p/x")
    pages["preferences"] = render_preferences(PERSON, language, WORDS[language].done)
    pages["preferences of nobody"] = render_preferences(NOBODY, language)
    pages["form"] = render_form(SIGN_UP, language, action="../subscribe")
    for wrong in Wrong:
        typed = Typed("ann@", agreed=wrong is Wrong.EMAIL, measuring=True)
        pages[f"form {wrong}"] = render_form(SIGN_UP, language, action="subscribe", typed=typed, wrong=wrong)
    snippet = render_snippet(SIGN_UP, language, action="https://t.example.com/subscribe")
    pages["snippet"] = HOST.format(language=language, snippet=snippet)
    return pages


async def test_every_page_is_accessible_and_fits_a_phone() -> None:
    by_language = {language: every_page(language) for language in WORDS}
    keys = [(language, name) for name in by_language["en"] for language in WORDS]

    async def show(request: web.Request) -> web.Response:
        language, name = keys[int(request.match_info["number"])]
        text = by_language[language][name]
        return web.Response(text=text, content_type="text/html") if name == "snippet" else html(text, 200, language)

    app = web.Application()
    app.router.add_get("/{number:[0-9]+}", show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    axe = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    wrong: list[object] = []
    try:
        async with running_browser() as browser:
            for number, (language, name) in enumerate(keys):
                # All languages have one structure: on phones, in one of them by night, and on a desktop.
                turn, dark = number % 3, number % 3 == 1
                await browser.look(width=DESKTOP if turn == 2 else PHONE, dark=dark)
                await browser.open(f"http://127.0.0.1:{runner.addresses[0][1]}/{number}")
                layout = await browser.value(LAYOUT)
                ours = name != "snippet"  # which has size and colours of its host
                if layout["wide"] > 0 or layout["lang"] != language or (layout["small"] and ours) or layout["h1"] != 1:
                    wrong.append((language, name, layout))
                if turn < 2 or "<form" in by_language[language][name]:  # a heading and a sentence: two of three will do
                    await browser.value(f"{axe};0")
                    found = [one for one in await browser.value(AXE) if ours or one[0] != "color-contrast"]
                    wrong += [(language, name, "dark" if dark else "light", *one) for one in found]
                if PICTURES:
                    for width, suffix in ((PHONE, "phone"), (DESKTOP, "desktop")):
                        await browser.look(width=width, dark=dark)
                        await browser.picture(f"{PICTURES}/{language}-{name}-{suffix}.png".replace(" ", "-"))
    finally:
        await runner.cleanup()

    assert wrong == [], json.dumps(wrong, indent=1, default=str)


async def test_somebody_signs_up_confirms_pauses_and_leaves_by_keyboard_without_scripts(office: Office) -> None:
    async with serving(office) as (base, _), running_browser() as browser:
        await browser.look(width=PHONE)
        await browser.without_scripts()

        await browser.open(f"{base}/s/site")
        await browser.tab()
        await browser.type("ann@reader.test")
        await browser.tab()
        await browser.space()
        await browser.tab()
        await browser.enter()
        assert "look into your mailbox" in await browser.text()
        (job,) = await office.jobs()
        contact, program = await office.pool.fetchrow("select contact_id, program_id from job") or (0, 0)

        await browser.open(tokens.confirm_url(base, tokens.confirm_token(KEYS, job)))
        assert await office.status() == "unconfirmed"
        await browser.tab()
        await browser.enter()
        assert "You are subscribed" in await browser.text()
        assert await office.status() == "subscribed"

        await browser.open(tokens.unsubscribe_url(base, tokens.contact_token(KEYS, contact, program)))
        assert "Unsubscribe from The Monday letter?" in await browser.text()
        await browser.tab(2)
        await browser.enter()
        assert "a•••@reader.test" in await browser.text()
        await browser.tab(2)
        await browser.enter()
        assert "You have a break until" in await browser.text()
        assert (await office.person(contact)).streams[0].break_until is not None

        await browser.open(tokens.unsubscribe_url(base, tokens.contact_token(KEYS, contact, program)))
        await browser.tab()
        await browser.enter()
        assert "You are unsubscribed" in await browser.text()
        assert await office.status() == "unsubscribed"
