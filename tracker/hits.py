"""Hits, and what a request says by itself about who made it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

import msgspec

from tracker.agents import MAX_AGENT, Agent, kind_of_agent

# `how` of an open whose mail was sent in mode hygiene.
HYGIENE = "hygiene"

# `how` of an unsubscribe on the page of preferences: this and the stream, or this alone for all.
PREFERENCES = "preferences"


class Kind(StrEnum):
    """What was asked for; the `kind` of the event."""

    OPEN = "open"  # the pixel
    CLICK = "click"
    LOOK = "unsubscribe_page"  # the page with the button; changes nothing
    UNSUBSCRIBE = "unsubscribe"  # the button, or the one click of RFC 8058
    PAGE = "page"  # of the operator's sites; no link of a mail


class Method(StrEnum):
    """How it was asked for. A GET that says of itself that it is a prefetch is PREFETCH."""

    GET = "GET"
    HEAD = "HEAD"
    PREFETCH = "PREFETCH"
    POST = "POST"


class HitClass(StrEnum):
    """Who it was. Only the first two earn points. In order of precedence from the last."""

    HUMAN = "human"
    PROXY = "proxy"  # a person's open, fetched by the mailbox provider
    VEILED = "veiled"  # Apple's proxy: nobody can know
    SCANNER = "scanner"  # a security gateway
    MACHINE = "machine"


EARNING = frozenset({HitClass.HUMAN, HitClass.PROXY})
_PRECEDENCE = {name: rank for rank, name in enumerate(HitClass)}


class Hit(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One request whose token was ours. What stands in the journal, in this order.

    Opens, clicks and page views have `job_id` (0: nobody's) and `link_id`, page views there the
    second (since 1970) of the click that led to the site; the others have `contact_id` and
    `program_id`. `agent` is cut to 200 characters, `network` is
    the address without the part that names a household.
    """

    event_id: UUID
    at: datetime
    kind: Kind
    method: Method
    agent: str
    network: str | None
    job_id: int = 0
    link_id: int = 0
    contact_id: int = 0
    program_id: int = 0
    # Of an unsubscribe: one_click, page or PREFERENCES; of an open: HYGIENE, or as its job says; of a page: where.
    how: str = ""


class Reader(msgspec.Struct, frozen=True, gc=False):
    """What the headers of a request say of who made it."""

    agent: str  # as a Hit has it
    prefetches: bool


# In which a browser says that nobody looks yet; `preview` is that of a thumbnail.
_PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")
_NOBODY_YET = ("prefetch", "prerender", "preview")


def reader_of(headers: Mapping[str, str]) -> Reader:
    """Who made a request, as its headers say, which are asked by names in lower case."""
    purposes = [headers[name].lower() for name in _PURPOSES if name in headers]
    prefetches = any(word in purpose for purpose in purposes for word in _NOBODY_YET)
    return Reader(_printable(headers.get("user-agent", ""))[:MAX_AGENT], prefetches)


def _printable(text: str) -> str:
    """Without control characters and the surrogates in which aiohttp hands on what is not UTF-8."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """A class and every reason that spoke against a person."""

    class_: HitClass
    reasons: tuple[str, ...]


def by_request(hit: Hit) -> Judgement:
    """What the request says as long as nothing else is known."""
    return judgement_of(signs_of_request(hit.kind, hit.method, hit.agent))


def certain(hit: Hit) -> Judgement | None:
    """What the request alone decides, against points; None when the rest must be asked too."""
    judgement = by_request(hit)
    return judgement if judgement.class_ in (HitClass.MACHINE, HitClass.VEILED) else None


# Few agents stand behind most hits, and each hit is asked about twice.
@lru_cache(maxsize=4096)
def signs_of_request(kind: Kind, method: Method, text: str) -> tuple[tuple[HitClass, str], ...]:
    """What the request alone says about who made it; empty for an ordinary browser."""
    signs: list[tuple[HitClass, str]] = []
    if method in (Method.HEAD, Method.PREFETCH):
        signs.append((HitClass.MACHINE, f"method:{method.lower()}"))
    match kind_of_agent(text):
        case Agent.NONE:
            signs.append((HitClass.MACHINE, "agent:none"))
        case Agent.ROBOT:
            signs.append((HitClass.MACHINE, "agent:robot"))
        case Agent.IMAGE_PROXY | Agent.PRIVACY_PROXY if kind is not Kind.OPEN:
            # They load images and follow no links: somebody borrows the name.
            signs.append((HitClass.MACHINE, "agent:proxy_clicks"))
        case Agent.IMAGE_PROXY:
            signs.append((HitClass.PROXY, "agent:image_proxy"))
        case Agent.PRIVACY_PROXY:
            signs.append((HitClass.VEILED, "agent:privacy_proxy"))
        case Agent.LIBRARY if kind is not Kind.OPEN:
            signs.append((HitClass.MACHINE, "agent:library"))
        case Agent.BROWSER | Agent.LIBRARY:
            pass
    return tuple(signs)


# There are some dozens.
@lru_cache(maxsize=256)
def judgement_of(signs: tuple[tuple[HitClass, str], ...]) -> Judgement:
    """The strongest sign decides, and all are kept; without any it was a person."""
    class_ = max((sign for sign, _ in signs), key=_PRECEDENCE.__getitem__, default=HitClass.HUMAN)
    return Judgement(class_, tuple(reason for _, reason in signs))
