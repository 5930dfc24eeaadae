"""Which rules a reply triggers. Pure: replies in, rules out; who counts and acts is automation.py.

A reply that we made ourselves triggers nothing: a rule that suspends a lane and
matches "suspended" would never let go of it (KumoMTA calls it match_internal).
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec

from mtad.base.automation import Automation, Rule, rules_in_force
from mtad.outcome.classify import OURS, Classifier, action_of, without_names
from mtad.outcome.kinds import Action, Bounced, Deferred, Scope
from mtad.smtp.results import Refused


class _Compiled(msgspec.Struct, frozen=True):
    rule: Rule
    search: Callable[[str], object] | None
    categories: frozenset[str]


class Meant(msgspec.Struct, frozen=True):
    """What a refusal comes to, for an operator who asks."""

    means: str  # a key of READINGS
    category: str
    scope: Scope
    action: Action
    rules: list[str]  # that count it


def read(automation: Automation, refused: Refused, provider: str) -> Meant:
    """A refusal as the pipeline would read it under this configuration; `provider` "" is one that nobody knows."""
    classifier = Classifier(automation.reply)
    outcome = classifier(refused)
    if not isinstance(outcome, Deferred | Bounced):
        raise TypeError(f"{refused.text!r} is no refusal")
    rules = Matcher(rules_in_force(automation)).matching(refused, outcome, provider or None)
    names = [rule.name for rule in rules]
    return Meant(classifier.reading_of(refused), outcome.category, outcome.scope, action_of(outcome), names)


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
        if OURS.match(refused.text):
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
