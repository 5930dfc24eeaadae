"""Facts without a mail: what servers tell, and pages of high intent. Pure.

They are offered to every stream of a contact and count where its policy has a rule for them.
A page counts once a rule and day (UTC), an event with points each time; an event without
points is a sign of a person all the same.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from engine.replay import Fact
from engine.rules import Policy
from engine.states import Event, Kind

Key = tuple[int, int]  # stream, contact

PAGE = "page"


class Free(msgspec.Struct, frozen=True, gc=False):
    """Something that a contact did; of a page view the property `url` is its address without query."""

    id: UUID
    event: str
    at: datetime
    properties: Mapping[str, Any]


def free_fact(key: Key, free: Free, policy: Policy) -> Fact | None:
    """What it means on a stream; None: nothing."""
    if free.event == PAGE:
        url = str(free.properties.get("url", ""))
        page = page_of(policy, url)
        if page is None:
            return None
        # `once` is compared within what is told together: it names whose it is.
        once = f"page {key[0]} {key[1]} {page} {free.at:%Y-%m-%d}"
        return _fact(free, f"visit of {url}", policy.points.page, once)
    rule = policy.event(free.event, free.properties)
    if rule is None:
        return None
    return _fact(free, f"event {free.event}", rule.points, f"event {free.id}" if rule.points else "")


def page_of(policy: Policy, url: str) -> str | None:
    """The first pattern of the policy that an address fits; `*` stands for anything."""
    bare = url.partition("://")[2]
    return next((page for page in policy.pages if _pattern(page).fullmatch(bare)), None)


def _fact(free: Free, words: str, points: int, once: str) -> Fact:
    return Fact(id=f"free {free.id}", event=Event(Kind.SIGN, free.at, words, points), once=once)


@lru_cache(maxsize=1024)
def _pattern(page: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, page.split("*"))))
