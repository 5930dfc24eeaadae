"""What a program sends, to whom and in which order. Pure.

A definition is one version of a program: whom it takes, how people leave it, and the nodes
of its way (engine/nodes.py).
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from engine.conditions import Answers
from engine.nodes import Node, SendNode, Stop, choice, groups, hasty_wait, mails, stop_at
from engine.rules import Policy
from engine.tables import matches
from mtad.base.errors import InputError

TRIGGERED, BULK = 1, 2

Kind = Literal["campaign", "series", "reactivation"]
LeaveOn = Literal["engaged", "click", "open"]
WhenSilent = Literal["inactive", "nothing"]
OnEngaged = Literal["stay", "leave"]
Waived = Literal["inactive", "left_audience"]
Enrol = Literal["current", "current_and_future", "handed_over"]

# Of 10,000 contacts so many steps can a share be told apart in.
_SHARES = 1 << 16


class Audience(msgspec.Struct, frozen=True):
    """Who: every named attribute has one of the listed values. No attributes: everybody on the stream."""

    attributes: dict[str, list[Any]] = msgspec.field(default_factory=dict)

    def holds(self, attributes: dict[str, Any]) -> bool:
        """Whether a contact with these attributes is meant. As in JSON, true is not 1."""
        return matches(self.attributes, attributes)


class Yearly(msgspec.Struct, frozen=True):
    """Begin each year on the day of a date attribute, at `minute` of that day in `zone`."""

    on: str
    minute: int
    zone: str


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a program. Never changed once stored."""

    name: str
    kind: Kind
    stream: str
    class_: int = msgspec.field(name="class", default=BULK)
    audience: Audience = Audience()
    leave_on: tuple[LeaveOn, ...] = ()
    when_silent: WhenSilent = "nothing"
    enrol: Enrol = "current"
    yearly: Yearly | None = None
    waives: tuple[Waived, ...] = ()  # reasons of the gate that do not bind its mail
    start: str | None = None  # ISO 8601, UTC
    not_after: str | None = None  # likewise
    priority: int = 5
    on_engaged: OnEngaged = "stay"
    holdout: float = 0.0  # the share of people who are left out, to compare with
    spacing: float = 0.0  # seconds between the first mails of two people, at least
    then: str = ""  # the program that takes over whoever leaves as engaged
    instead: str = ""  # the program that may take over whom this one refuses as inactive
    utm: dict[str, str] = msgspec.field(default_factory=dict)  # parameters of links, without their utm_
    first: str
    nodes: dict[str, Node]

    def to_json(self) -> dict[str, Any]:
        return dict(msgspec.to_builtins(self))

    @classmethod
    def from_json(cls, obj: object) -> "Definition":
        return msgspec.convert(obj, cls)

    @property
    def starts(self) -> datetime | None:
        return None if self.start is None else datetime.fromisoformat(self.start)

    @property
    def ends(self) -> datetime | None:
        return None if self.not_after is None else datetime.fromisoformat(self.not_after)


def next_stop(definition: Definition, node: str) -> Stop:
    """From a send node over the waits, which add up, to the next send node, choice or end."""
    sent = definition.nodes[node]
    if not isinstance(sent, SendNode):
        raise TypeError(f"{definition.name}: {node} is no send node")
    return stop_at(definition.nodes, sent.next)


def chosen_stop(definition: Definition, node: str, last: str | None, answers: Answers | None) -> Stop:
    """Where a choice leads whose last mail was that of send node `last`; None: there was none, or nothing is known."""
    return choice(definition.nodes, node, last, answers)


def life_of(definition: Definition, node: str) -> timedelta | None:
    """How long after it is due the mail of a send node makes sense; None: its step does not say."""
    sent = definition.nodes[node]
    return timedelta(seconds=sent.life) if isinstance(sent, SendNode) and sent.life else None


def comes_by(definition: Definition) -> str:
    """What brings people into a program that does not take its audience at the start; '' where it does."""
    if definition.kind == "reactivation":
        return "it takes people when their cool-down is over"
    if definition.yearly:
        return f"it takes people on the day of their {definition.yearly.on}"
    if definition.enrol == "handed_over":
        return "it takes only whom another program hands over"
    return ""


def mails_of(definition: Definition) -> list[str]:
    """The send nodes, in the order of the file."""
    return mails(definition.nodes, definition.first)


def held_out(program_id: int, contact_id: int, share: float) -> bool:
    """Whether a program leaves this contact out, to compare with: always the same for the same two."""
    if not share:
        return False
    return (zlib.crc32(b"%d %d" % (program_id, contact_id)) & (_SHARES - 1)) < share * _SHARES


def first_cycle(program: str, leads_to: Mapping[str, Iterable[str]]) -> list[str]:
    """A way from a program over `then` and `instead` back to it, [] where there is none."""

    def search(way: list[str]) -> Iterator[list[str]]:
        for following in leads_to.get(way[-1], ()):
            if following == program:
                yield [*way, following]
            elif following not in way:
                yield from search([*way, following])

    return next(search([program]), [])


def require_reachable(definition: Definition, policy: Policy) -> None:
    """InputError for a series that people leave as Engaged, if its own mails cannot earn the threshold."""
    if "engaged" not in definition.leave_on:
        return
    number, most = _earns(definition, policy)
    if most < policy.threshold:
        raise InputError(
            f"leave_on: engaged needs {policy.threshold} points, and {number} mails earn at most {most}:"
            f" add a step, leave on click or open, or lower the stream's threshold"
        )


def require_threshold_in_reach(policy: Policy, programs: Iterable[Definition]) -> None:
    """InputError for a policy whose threshold none of the stream's series, of those left as Engaged, can earn."""
    most = max(
        ((_earns(series, policy)[1], series.name) for series in programs if "engaged" in series.leave_on),
        default=None,
    )
    if most and most[0] < policy.threshold:
        raise InputError(
            f"policy.threshold: {policy.threshold} cannot be reached in any series of the stream:"
            f" {most[1]} earns most, {most[0]} points"
        )


def require_time_to_answer(policy: Policy, programs: Iterable[Definition]) -> None:
    """InputError for a policy whose window is longer than a wait of a series that ends as inactive."""
    for series in programs:
        concludes = series.when_silent == "inactive" or series.kind == "reactivation"
        if concludes and (found := hasty_wait(series.nodes, policy.window)):
            node, wait = found
            raise InputError(
                f"policy.window: {policy.window / policy.day:g}d is longer than the {wait / policy.day:g}d that"
                f" {series.name} waits after {node}; who had no time to answer would become inactive:"
                " have it wait longer first"
            )


def _earns(definition: Definition, policy: Policy) -> tuple[int, int]:
    """How many mails somebody can get of a program, and the most points that they can earn."""
    number = sum(1 for _ in groups(definition.nodes, definition.first))
    return number, number * (policy.points.open + policy.points.click)
