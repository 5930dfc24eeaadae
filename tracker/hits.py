"""Hits, and the question of who made them. Pure: times come with the hits and the mail.

All hits on one mail are judged together, because a scanner shows itself by what
it fetches within one second, not by any single request. Thresholds are those of
engine.md section 4; what they cannot know they leave to the person: to count a
scanner as human costs less than to tell a reader that she has not read.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

import msgspec

from tracker.agents import Agent, kind_of_agent

# So many different links of one mail within one second are no reader; all of
# them, in a mail that has fewer, and never fewer than two.
BURST_LINKS = 5
BURST_LEAST = 2
BURST_SPAN = timedelta(seconds=1)


# `how` of an open whose mail was sent in mode hygiene.
HYGIENE = "hygiene"


class Kind(StrEnum):
    """What was asked for; the `kind` of the event."""

    OPEN = "open"  # the pixel
    CLICK = "click"
    LOOK = "unsubscribe_page"  # the page with the button; changes nothing
    UNSUBSCRIBE = "unsubscribe"  # the button, or the one click of RFC 8058


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

    Opens and clicks have `job_id` (0: nobody's) and `link_id`; the others have
    `contact_id` and `program_id`. `agent` is cut to 200 characters, `network` is
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
    how: str = ""  # of an unsubscribe: one_click or page; of an open: HYGIENE, or as its job says


class Mail(msgspec.Struct, frozen=True):
    """What is known of the mail that was hit.

    `accepted_at` is the time of its 250, None if it never got one. With `doubts`,
    attempts whose answer was lost, a copy may have arrived before the last `dot_at`.
    """

    links: int  # tracked links, without pixel and unsubscribe link
    dot_at: datetime | None
    accepted_at: datetime | None
    doubts: int


class Judgement(msgspec.Struct, frozen=True):
    """A class and every reason that spoke against a person."""

    class_: HitClass
    reasons: tuple[str, ...]


def judge(hits: Sequence[Hit], mail: Mail, *, beside: Sequence[Hit] = ()) -> list[Judgement]:
    """One judgement for each of `hits`, in the order given; the order itself does not matter.

    With `beside`, which were judged before, they are all hits on one mail within reach of each
    other, and those on its unsubscribe page, which count as one more link.
    """
    burst = _in_burst([*hits, *beside], mail.links)
    return [_judgement(hit, mail, burst=index in burst) for index, hit in enumerate(hits)]


def certain(hit: Hit) -> Judgement | None:
    """What the request alone decides, against points; None when the rest must be asked too."""
    judgement = _judgement_of(_signs_of_request(hit.kind, hit.method, hit.agent))
    return judgement if judgement.class_ in (HitClass.MACHINE, HitClass.VEILED) else None


# Few agents stand behind most hits, and each hit is asked about twice.
@lru_cache(maxsize=4096)
def _signs_of_request(kind: Kind, method: Method, text: str) -> tuple[tuple[HitClass, str], ...]:
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
        case Agent.BROWSER:
            pass
    return tuple(signs)


def _judgement(hit: Hit, mail: Mail, *, burst: bool) -> Judgement:
    signs = (*_signs_of_request(hit.kind, hit.method, hit.agent), *_signs_of_time(hit, mail))
    return _judgement_of((*signs, (HitClass.SCANNER, "burst")) if burst else signs)


# There are some dozens.
@lru_cache(maxsize=256)
def _judgement_of(signs: tuple[tuple[HitClass, str], ...]) -> Judgement:
    class_ = max((sign for sign, _ in signs), key=_PRECEDENCE.__getitem__, default=HitClass.HUMAN)
    return Judgement(class_, tuple(reason for _, reason in signs))


def _signs_of_time(hit: Hit, mail: Mail) -> list[tuple[HitClass, str]]:
    """Nobody reads what has not arrived: not before the final dot, nor before its 250."""
    if mail.doubts:
        return []
    if mail.accepted_at is None:
        early = mail.dot_at is None or hit.at < mail.dot_at
        return [(HitClass.MACHINE, "before_dot") if early else (HitClass.SCANNER, "never_accepted")]
    if mail.dot_at is not None and hit.at < mail.dot_at:
        return [(HitClass.MACHINE, "before_dot")]
    if hit.at < mail.accepted_at:
        return [(HitClass.SCANNER, "before_250")]
    return []


def _in_burst(hits: Sequence[Hit], links: int) -> set[int]:
    """The indexes of hits that belong to a burst, and of pixels fetched beside one."""
    enough = max(BURST_LEAST, min(BURST_LINKS, links))
    if len(hits) < enough:
        return set()
    followed = sorted((i for i, hit in enumerate(hits) if hit.kind is not Kind.OPEN), key=lambda i: hits[i].at)
    found: list[int] = []
    seen: Counter[int] = Counter()
    first = taken = 0
    for last, index in enumerate(followed):
        seen[_link(hits[index])] += 1
        while hits[index].at - hits[followed[first]].at > BURST_SPAN:
            gone = _link(hits[followed[first]])
            seen[gone] -= 1
            if not seen[gone]:
                del seen[gone]
            first += 1
        if len(seen) >= enough:
            found += followed[max(first, taken) : last + 1]
            taken = last + 1
    times = [hits[index].at for index in found]
    beside = {i for i, hit in enumerate(hits) if hit.kind is Kind.OPEN and _near(hit, times)}
    return beside.union(found)


def _link(hit: Hit) -> int:
    """Which link, for counting different ones; ids of links begin with 1."""
    return hit.link_id if hit.kind is Kind.CLICK else 0


def _near(hit: Hit, times: Sequence[datetime]) -> bool:
    """Whether a direct fetch of the pixel lies within a second of a burst.

    A proxy's fetch does not belong to whoever followed the links.
    """
    if kind_of_agent(hit.agent) in (Agent.IMAGE_PROXY, Agent.PRIVACY_PROXY):
        return False
    place = bisect_left(times, hit.at - BURST_SPAN)
    return place < len(times) and times[place] <= hit.at + BURST_SPAN
