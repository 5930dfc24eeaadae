"""The pages that people see: small, complete in one answer, without JavaScript. Pure.

Nothing in them comes from outside, so there is nothing to escape.
"""

import base64
import hashlib
from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Page(StrEnum):
    """What there is to say."""

    ASK = "ask"
    DONE = "done"
    NOTED = "noted"  # journalled; the database will have it later
    NOBODY = "nobody"  # the mail was a preview or a test
    BAD_LINK = "bad_link"
    LATER = "later"  # nothing could be noted


class Words(msgspec.Struct, frozen=True):
    """One page in one language."""

    title: str
    text: str
    button: str = ""


STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#f4f2ee;--card:#fff;--deed:#0b5cad;--on:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#eceff3;--soft:#a7b0ba;--paper:#14171b;--card:#1e2329;--deed:#7cb8f5;--on:#0b1622}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;min-height:100dvh;display:grid;place-items:center;padding:1.25rem;
background:var(--paper);color:var(--ink);font:1.0625rem/1.6 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:27rem;padding:2.25rem 2rem;border-radius:1rem;background:var(--card);
box-shadow:0 1px 2px #0002,0 12px 32px #0001}
h1{margin:0 0 .75rem;font-size:1.5rem;line-height:1.25;text-wrap:balance}
p{margin:0;color:var(--soft)}
button{width:100%;min-height:3rem;margin-top:1.75rem;padding:.75rem 1.25rem;border:0;border-radius:.625rem;
background:var(--deed);color:var(--on);font:inherit;font-weight:600;cursor:pointer}
button:hover{filter:brightness(1.08)}
button:focus-visible{outline:3px solid var(--ink);outline-offset:3px}
"""

# Nothing may be loaded and nobody may frame the page; its form posts to us only.
POLICY = (
    "default-src 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

WORDS: Mapping[str, Mapping[Page, Words]] = {
    "en": {
        Page.ASK: Words("Unsubscribe?", "Press the button and you will get no more of these mails.", "Unsubscribe"),
        Page.DONE: Words("You are unsubscribed", "You will get no more of these mails. You can close this page."),
        Page.NOTED: Words("We have noted it", "Your wish is saved and takes effect in a moment. Nothing else to do."),
        Page.NOBODY: Words("This mail was a test", "It was sent to try it out, so there is nobody to unsubscribe."),
        Page.BAD_LINK: Words("This link does not work", "Please use the whole link as it stands in the mail."),
        Page.LATER: Words("That did not work just now", "It is our fault. Please try again in a minute."),
    },
    "de": {
        Page.ASK: Words("Abmelden?", "Ein Klick auf den Knopf, und diese Mails kommen nicht mehr.", "Abmelden"),
        Page.DONE: Words("Sie sind abgemeldet", "Diese Mails kommen nicht mehr. Sie können die Seite schließen."),
        Page.NOTED: Words("Wir haben es notiert", "Ihr Wunsch ist gespeichert und gilt gleich. Mehr ist nicht zu tun."),
        Page.NOBODY: Words("Diese Mail war ein Test", "Sie war nur zur Probe; es gibt also niemanden abzumelden."),
        Page.BAD_LINK: Words("Dieser Link geht nicht", "Bitte nehmen Sie den ganzen Link, wie er in der Mail steht."),
        Page.LATER: Words("Das ging gerade nicht", "Es liegt an uns. Bitte versuchen Sie es in einer Minute wieder."),
    },
    "ru": {
        Page.ASK: Words("Отписаться?", "Нажмите кнопку, и эти письма больше не будут приходить.", "Отписаться"),
        Page.DONE: Words("Вы отписаны", "Эти письма больше не будут приходить. Страницу можно закрыть."),
        Page.NOTED: Words("Мы это записали", "Ваше желание сохранено и скоро подействует. Больше ничего не нужно."),
        Page.NOBODY: Words("Это было пробное письмо", "Это только проверка рассылки: отписывать некого."),
        Page.BAD_LINK: Words("Ссылка не работает", "Пожалуйста, откройте ссылку целиком, как она стоит в письме."),
        Page.LATER: Words("Сейчас не получилось", "Это наша ошибка. Пожалуйста, попробуйте ещё раз через минуту."),
    },
}  # fmt: skip


def render(page: Page, language: str) -> str:
    """A page as HTML; the form has no target, so it posts to where it stands."""
    words = WORDS[language][page]
    form = ""
    if words.button:
        form = (
            '<form method="post"><input type="hidden" name="confirm" value="1">'
            f'<button type="submit">{words.button}</button></form>'
        )
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{words.title}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{words.title}</h1><p>{words.text}</p>{form}</main></body></html>"
    )


def language_for(accept: str) -> str:
    """The best of our languages for an Accept-Language header (RFC 9110 section 12.5.4); English otherwise."""
    best, best_weight = "en", 0.0
    for part in accept.split(","):
        name, _, parameter = part.strip().partition(";")
        language = name.partition("-")[0].strip().lower()
        weight = _weight(parameter)
        if language in WORDS and weight > best_weight:
            best, best_weight = language, weight
    return best


def _weight(parameter: str) -> float:
    text = parameter.strip().removeprefix("q=")
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0
