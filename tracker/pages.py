"""The pages that people see: small, complete in one answer, without JavaScript. Pure.

Templates stand in `templates/`, words in `words`. Titles of streams, the words of forms and
addresses come from outside, and Jinja escapes them.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from importlib.resources import files

import jinja2
import msgspec

from tracker.desk import Act, Form, Person, Subscription
from tracker.words import WORDS, Said, Words


class Page(StrEnum):
    """A heading and a sentence; some have a button. The value is the field of `Words`."""

    ASK = "leave"
    DONE = "left"
    NOTED = "noted"
    NOBODY = "nobody"
    BAD_LINK = "bad_link"
    LATER = "later"
    CHECK_MAIL = "check_mail"
    CONFIRM = "confirm"
    CONFIRMED = "confirmed"
    USED = "used"
    GONE = "gone"
    SLOW = "slow"


class Wrong(StrEnum):
    """Why a form is shown again."""

    EMAIL = "email"
    CONSENT = "consent"
    CHANGED = "changed"  # other words than these were shown, or nobody knows which


class Typed(msgspec.Struct, frozen=True):
    """What somebody has filled in already."""

    email: str = ""
    agreed: bool = False
    measuring: bool = False


NOTHING_TYPED = Typed()


class _Row(msgspec.Struct, frozen=True):
    """A stream as the preference page shows it."""

    stream_id: int
    title: str
    status: str
    measured: bool
    acts: list[tuple[Act, str]]


def _template(name: str) -> str:
    return (files("tracker") / "templates" / name).read_text(encoding="utf-8")


_STYLE = _template("style.css").replace("\n", "")

_JINJA = jinja2.Environment(
    loader=jinja2.FunctionLoader(_template),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_JINJA.globals["style"] = _STYLE

_JINJA.get_template("base.html")  # into its cache, or the loop would read it for the first page
_TEMPLATES = {name: _JINJA.get_template(f"{name}.html") for name in ("said", "preferences", "subscribe", "snippet")}

# Nothing may be loaded and nobody may frame the page; its forms post to us only.
POLICY = (
    "default-src 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def render(page: Page, language: str, *, stream: str = "", preferences: str = "", quoted: Sequence[str] = ()) -> str:
    """A page as HTML; its form has no target, so it posts to where it stands.

    `stream` is what is left, where we know it; `preferences` the address of that page; `quoted`
    the words that pressing the button agrees to.
    """
    words = WORDS[language]
    said: Said = getattr(words, page)
    title = words.leave_stream.format(stream=stream) if page is Page.ASK and stream else said.title
    button = {Page.ASK: words.leave_button, Page.CONFIRM: words.confirm_button}.get(page, "")
    return _TEMPLATES["said"].render(
        language=language,
        title=title,
        text=said.text,
        agreeing=words.agreeing,
        quoted=quoted,
        button=button,
        preferences=preferences,
        settings=words.after_leaving if page is Page.DONE else words.preferences,
    )


def render_preferences(person: Person, language: str, said: str = "") -> str:
    """All streams of a person, what can be done about each, and `said`: what the last button came to."""
    words = WORDS[language]
    return _TEMPLATES["preferences"].render(
        w=words,
        language=language,
        title=words.choices,
        for_address=words.for_address.format(address=masked(person.address)),
        said=said,
        streams=[_row(one, words) for one in person.streams],
        all_acts=_acts_on_all(person.streams, words),
    )


def render_form(
    form: Form, language: str, *, action: str, typed: Typed = NOTHING_TYPED, wrong: Wrong | None = None
) -> str:
    """A form to sign up by; `action` is where it posts, `wrong` what has to be mended."""
    words = WORDS[language]
    return _TEMPLATES["subscribe"].render(
        w=words,
        language=language,
        title=form.title or words.subscribe.format(stream=form.stream),
        form=form,
        action=action,
        email=typed.email,
        agreed=typed.agreed,
        measuring=typed.measuring,
        wrong=wrong,
    )


def render_snippet(form: Form, language: str, *, action: str) -> str:
    """The same form for a page of somebody else's, without any style."""
    return _TEMPLATES["snippet"].render(w=WORDS[language], form=form, action=action)


def masked(address: str) -> str:
    """Enough of an address for its owner, too little for whom the mail was forwarded to."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"


def known_language(locale: str | None) -> str | None:
    """Which of our languages a locale (de, de-AT, de_AT) means."""
    language = (locale or "").replace("_", "-").partition("-")[0].lower()
    return language if language in WORDS else None


def language_for(accept: str) -> str:
    """The best of our languages for an Accept-Language header (RFC 9110 section 12.5.4); English otherwise."""
    best, best_weight = "en", 0.0
    for part in accept.split(","):
        name, _, parameter = part.strip().partition(";")
        language = known_language(name.strip())
        weight = _weight(parameter)
        if language and weight > best_weight:
            best, best_weight = language, weight
    return best


def _weight(parameter: str) -> float:
    text = parameter.strip().removeprefix("q=")
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0


def _row(one: Subscription, words: Words) -> _Row:
    acts: list[tuple[Act, str]] = []
    if one.undo:
        acts.append((Act.UNDO, words.undo_button))
    if one.subscribed:
        acts.append((Act.LEAVE, words.leave_button))
        if one.break_until is None:
            acts.append((Act.BREAK, words.pause_button))
        elif not one.undo:
            acts.append((Act.RESUME, words.resume_button))
        if one.measured:
            acts.append((Act.UNMEASURE, words.unmeasure_button))
    elif one.form and not one.undo:
        acts.append((Act.RETURN, words.return_button))
    return _Row(one.stream_id, one.title, _status(one, words), one.measured or not one.subscribed, acts)


def _status(one: Subscription, words: Words) -> str:
    if not one.subscribed:
        return words.gets_nothing
    return words.pauses.format(date=_date(one.break_until, words)) if one.break_until else words.gets


def _acts_on_all(streams: Sequence[Subscription], words: Words) -> list[tuple[Act, str]]:
    """Only where it is more than what the buttons of one stream do."""
    acts = []
    if sum(one.subscribed for one in streams) > 1:
        acts.append((Act.LEAVE, words.leave_all_button))
    if sum(one.measured for one in streams) > 1:
        acts.append((Act.UNMEASURE, words.unmeasure_all_button))
    return acts


def _date(at: datetime, words: Words) -> str:
    return words.date.format(day=at.day, month=words.months[at.month - 1], year=at.year)
