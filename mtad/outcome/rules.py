"""Which rules a reply triggers. Pure: replies in, rules out; who counts and acts is automation.py.

A reply that we made ourselves triggers nothing: a rule that suspends a lane and
matches "suspended" would never let go of it (KumoMTA calls it match_internal).
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec

from mtad.base.automation import Rule
from mtad.outcome.classify import without_names
from mtad.outcome.kinds import Bounced, Deferred, Scope
from mtad.smtp.results import Refused

_OURS = re.compile(r"\d{3} (?:\d\.\d{1,3}\.\d{1,3} )?not sent:")


class _Compiled(msgspec.Struct, frozen=True):
    rule: Rule
    search: Callable[[str], object] | None
    categories: frozenset[str]


class Matcher:
    """Answers for one set of rules, and remembers: searching takes up to 60 µs."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [
            _Compiled(
                rule, re.compile(rule.regex, re.IGNORECASE).search if rule.regex else None, frozenset(rule.category)
            )
            for rule in rules
        ]
        self._remembered = lru_cache(maxsize=4096)(self._matching)

    def matching(self, refused: Refused, outcome: Deferred | Bounced, provider: str | None) -> tuple[Rule, ...]:
        """The rules that this reply counts for. `outcome`: what classify made of it.

        Searched is the reply without mail addresses and ids: those are not the server's words.
        A reply about one recipient or mailbox counts only for rules that name its category:
        "over quota, temporarily deferred" says nothing about us.
        """
        if _OURS.match(refused.text):
            return ()
        text = "" if outcome.scope in (Scope.RECIPIENT, Scope.MAILBOX) else without_names(refused.text)
        return self._remembered(text, outcome.category, provider)

    def _matching(self, text: str, category: str, provider: str | None) -> tuple[Rule, ...]:
        return tuple(
            known.rule
            for known in self._rules
            if known.rule.provider in ("", provider)
            and (category in known.categories or (text and known.search is not None and known.search(text)))
        )
