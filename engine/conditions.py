"""Conditions on the steps of a series: `opened, not clicked`. Pure.

    condition = term *("," term)              all of them hold
    term      = ["not"] ("opened" / "clicked" ["link" number])

They speak of the last mail that the contact was sent before the step. Steps with a
condition that follow each other are a group: the first whose condition holds is sent.

A condition holds only where we could have heard: of a mail that Apple's proxy fetched
nobody knows whether it was opened, so neither `opened` nor `not opened` holds; of somebody
who may not be measured no condition holds.
"""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence

import msgspec

from mtad.base.errors import InputError

_TERM = re.compile(r"(?P<not>not\s+)?(?:(?P<opened>opened)|clicked(?:\s+link\s+(?P<link>[1-9]\d{0,3}))?)")

# A condition of more could not be read by people, and looking for contradictions doubles with each link.
MOST_TERMS = 6

_EXAMPLE = 'write "not opened", "opened, not clicked" or "clicked link 2"'


class Answers(msgspec.Struct, frozen=True):
    """What a person did with one mail."""

    opened: bool | None = False  # None: we could not have known
    clicked: frozenset[int] = frozenset()  # the links, by their position in the message


class Term(msgspec.Struct, frozen=True):
    """One thing that a person did, or did not."""

    what: str  # opened, clicked
    link: int | None = None  # of clicked: this one; None: any
    holds: bool = True  # False: 'not'

    def true_of(self, answers: Answers) -> bool | None:
        """None where we could not have known. Who clicked a link has opened the mail, images or not."""
        if self.what == "opened":
            done = True if answers.clicked else answers.opened
        else:
            done = bool(answers.clicked) if self.link is None else self.link in answers.clicked
        return None if done is None else done is self.holds


class Condition(msgspec.Struct, frozen=True):
    """Terms that all have to hold."""

    terms: tuple[Term, ...]

    def holds(self, answers: Answers | None) -> bool:
        """Whether it surely holds; None: the contact may not be measured."""
        return answers is not None and all(term.true_of(answers) is True for term in self.terms)

    @property
    def links(self) -> frozenset[int]:
        """The positions of links that it names; the mail before must have them."""
        return frozenset(term.link for term in self.terms if term.link is not None)


@functools.lru_cache(maxsize=1024)  # a batch of entries asks for the same few again and again
def parse_condition(key: str, text: str) -> Condition:
    """The text of `if` as a condition; InputError in one line for bad text and for what can never hold."""
    terms = tuple(_term(key, part) for part in text.split(","))
    if len(terms) > MOST_TERMS:
        raise InputError(f"{key}: at most {MOST_TERMS} terms, {text!r} has {len(terms)}")
    condition = Condition(terms)
    if not any(condition.holds(answers) for answers in _possible(condition.links)):
        raise InputError(f"{key}: {text!r} can never hold; who clicked has opened")
    return condition


def require_reachable_steps(key: str, group: Sequence[Condition | None], *, first: int = 0) -> None:
    """InputError for a step of a group that is never sent, for the steps before it take everybody it is for.

    None is a step without a condition, which ends a group and takes everybody who is left.
    `first` is the number of the group's first step, for the words of the error.
    """
    links = frozenset(itertools.chain.from_iterable(condition.links for condition in group if condition))
    if len(links) > MOST_TERMS:
        raise InputError(f"{key}: at most {MOST_TERMS} links may be named in one group, here are {len(links)}")
    taken_by = {chosen(group, answers) for answers in (*_possible(links), None)}
    for at in range(len(group)):
        if at not in taken_by:
            raise InputError(f"{key}[{first + at}].if: is never sent, for the steps before it take everybody it is for")


def chosen(group: Sequence[Condition | None], answers: Answers | None) -> int | None:
    """Which step of a group is sent; None: no condition holds, and the way goes on behind the group."""
    return next((at for at, step in enumerate(group) if step is None or step.holds(answers)), None)


def _term(key: str, part: str) -> Term:
    match = _TERM.fullmatch(part.strip())
    if not match:
        raise InputError(f"{key}: {part.strip()!r} is no condition; {_EXAMPLE}")
    what = "opened" if match["opened"] else "clicked"
    return Term(what, int(match["link"]) if match["link"] else None, holds=not match["not"])


def _possible(links: frozenset[int]) -> Iterator[Answers]:
    """All that a person can do with a mail that has these links and others."""
    some = [*sorted(links), max(links, default=0) + 1]
    for picked in itertools.product((False, True), repeat=len(some)):
        clicked = frozenset(itertools.compress(some, picked))
        for opened in (True, False, None):
            yield Answers(opened, clicked)
