"""What a program sends, to whom and in which order. Pure.

A definition is a graph of nodes under string keys: send → wait → send → … → end.
A send node's key is the name of its message; entries and jobs keep node keys, so a
key never changes its meaning within a program.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

import msgspec

from engine.rules import USUALLY, Policy
from engine.rules import OnEngaged as Defaults
from engine.tables import Table, decoded, duration, matches, moment, name
from mtad.base.errors import InputError

END = "end"

Kind = Literal["campaign", "series"]
LeaveOn = Literal["engaged", "click", "open"]
WhenSilent = Literal["inactive", "nothing"]
OnEngaged = Literal["stay", "leave"]
Enrol = Literal["current"]


class SendNode(msgspec.Struct, frozen=True, tag="send"):
    """Send a message, then go on."""

    message: str
    next: str


class WaitNode(msgspec.Struct, frozen=True, tag="wait"):
    """Let time pass since the delivery of the send node before."""

    seconds: float
    next: str


class EndNode(msgspec.Struct, frozen=True, tag="end"):
    """The way is over."""


Node = SendNode | WaitNode | EndNode


class Audience(msgspec.Struct, frozen=True):
    """Who: every named attribute has one of the listed values. No attributes: everybody on the stream."""

    attributes: dict[str, list[Any]] = msgspec.field(default_factory=dict)

    def holds(self, attributes: dict[str, Any]) -> bool:
        """Whether a contact with these attributes is meant. As in JSON, true is not 1."""
        return matches(self.attributes, attributes)


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a program. Never changed once stored."""

    name: str
    kind: Kind
    stream: str
    class_: int = msgspec.field(name="class", default=2)
    audience: Audience = Audience()
    leave_on: tuple[LeaveOn, ...] = ()
    when_silent: WhenSilent = "nothing"
    enrol: Enrol = "current"
    start: str | None = None  # ISO 8601, UTC
    not_after: str | None = None  # likewise
    priority: int = 5
    on_engaged: OnEngaged = "stay"
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


class Stop(msgspec.Struct, frozen=True):
    """Where somebody stands next, and how many seconds after the delivery."""

    node: str
    wait: float
    ends: bool


def next_stop(definition: Definition, node: str) -> Stop:
    """From a send node over the waits, which add up, to the next send node or the end."""
    sent = definition.nodes[node]
    if not isinstance(sent, SendNode):
        raise TypeError(f"{definition.name}: {node} is no send node")
    key, wait = sent.next, 0.0
    while isinstance(at := definition.nodes[key], WaitNode):
        wait += at.seconds
        key = at.next
    return Stop(key, wait, isinstance(at, EndNode))


class _Step(Table, frozen=True, kw_only=True):
    message: str
    wait: str | None = None


class _AudienceTable(Table, frozen=True, kw_only=True):
    attributes: dict[str, list[str | int | float | bool]] = msgspec.field(default_factory=dict)


class _ProgramTable(Table, frozen=True, kw_only=True):
    name: str
    kind: Kind
    stream: str
    audience: _AudienceTable = _AudienceTable()
    leave_on: tuple[LeaveOn, ...] | None = None
    when_silent: WhenSilent | None = None
    enrol: Enrol = "current"
    start: str | None = None
    not_after: str | None = None
    priority: int = 5
    on_engaged: OnEngaged | None = None
    step: list[_Step]


def parse_program(raw: dict[str, Any], *, day: float, window: float, engaged: Defaults = USUALLY) -> Definition:
    """The TOML of a program on a stream with this `day` and `window` (seconds); InputError in one line.

    `engaged` is what the stream does where the program does not say it.

    After the last step a series waits the window, so that the last mail too may be answered.
    """
    table = decoded(raw, _ProgramTable)
    series = table.kind == "series"
    if not 1 <= table.priority <= 9:
        raise InputError(f"priority: 1 to 9, is {table.priority}")
    if not series:
        _refuse_keys_of_series(table)
    elif table.on_engaged is not None:
        raise InputError('on_engaged: only campaigns have it; a series says leave_on = ["engaged"]')
    start, not_after = _moment("start", table.start), _moment("not_after", table.not_after)
    if start and not_after and not_after <= start:
        raise InputError(f"not_after: must be after start, is {table.not_after}")
    when_silent: WhenSilent = "nothing"
    if series:
        when_silent = table.when_silent or "inactive"
    first, nodes = _line(table.step, day=day, last_wait=window if series else 0.0)
    if when_silent == "inactive":
        _refuse_hasty_waits(nodes, window)
    default_leave: tuple[LeaveOn, ...] = ("engaged",) if series and engaged.series == "leave" else ()
    return Definition(
        name=name("name", table.name),
        kind=table.kind,
        stream=name("stream", table.stream),
        audience=Audience(dict(table.audience.attributes)),
        leave_on=default_leave if table.leave_on is None else table.leave_on,
        when_silent=when_silent,
        enrol=table.enrol,
        start=start.isoformat() if start else None,
        not_after=not_after.isoformat() if not_after else None,
        priority=table.priority,
        on_engaged=table.on_engaged or ("stay" if series else engaged.campaign),
        first=first,
        nodes=nodes,
    )


def require_reachable(definition: Definition, policy: Policy) -> None:
    """InputError for a series that people leave as Engaged, if its own mails cannot earn the threshold."""
    if "engaged" not in definition.leave_on:
        return
    mails, most = _earns(definition, policy)
    if most < policy.threshold:
        raise InputError(
            f"leave_on: engaged needs {policy.threshold} points, and {mails} mails earn at most {most}:"
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


def _earns(definition: Definition, policy: Policy) -> tuple[int, int]:
    """How many mails a program has, and the most points that they can earn."""
    mails = sum(isinstance(node, SendNode) for node in definition.nodes.values())
    return mails, mails * (policy.points.open + policy.points.click)


def _refuse_keys_of_series(table: _ProgramTable) -> None:
    if len(table.step) > 1:
        raise InputError(f"step: a campaign is one mail, here are {len(table.step)}; a series takes more")
    if table.leave_on:
        raise InputError('leave_on: only a series has it; a campaign says on_engaged = "leave"')
    if table.when_silent == "inactive":
        raise InputError("when_silent: only a series may end as inactive; a campaign is one mail")


def _line(steps: list[_Step], *, day: float, last_wait: float) -> tuple[str, dict[str, Node]]:
    """The steps as nodes in a line; the key of the first, and all of them."""
    if not steps:
        raise InputError("step: at least one is needed")
    keys = [name(f"step[{at}].message", step.message) for at, step in enumerate(steps)]
    if len(set(keys)) < len(keys) or END in keys:
        twice = next(key for key in keys if keys.count(key) > 1 or key == END)
        raise InputError(f"step: message {twice!r} " + ("is a reserved name" if twice == END else "stands there twice"))
    if steps[0].wait is not None:
        raise InputError("step[0].wait: the first mail is sent at once; program start has its own key")
    waits = [*(_wait(at, step, day) for at, step in enumerate(steps[1:], 1)), last_wait]
    nodes: dict[str, Node] = {}
    for key, after, wait in zip(keys, [*keys[1:], END], waits, strict=True):
        if wait:
            # A space keeps it apart from every name of a message.
            nodes[key] = SendNode(key, f"after {key}")
            nodes[f"after {key}"] = WaitNode(wait, after)
        else:
            nodes[key] = SendNode(key, after)
    nodes[END] = EndNode()
    return keys[0], nodes


def _wait(at: int, step: _Step, day: float) -> float:
    if step.wait is None:
        raise InputError(f'step[{at}].wait: is missing; write wait = "3d", counted from the delivery before')
    return duration(f"step[{at}].wait", step.wait, day)


def _refuse_hasty_waits(nodes: dict[str, Node], window: float) -> None:
    """A series that ends as inactive must leave each mail as long as an answer may take."""
    for key, node in nodes.items():
        if isinstance(node, SendNode) and isinstance(at := nodes[node.next], WaitNode | SendNode):
            wait = at.seconds if isinstance(at, WaitNode) else 0.0
            if wait < window:
                raise InputError(
                    f"step: the wait after {key} is {wait:g} s, shorter than the stream's window of {window:g} s;"
                    f' who had no time to answer would become inactive: wait longer or when_silent = "nothing"'
                )


def _moment(key: str, value: str | None) -> datetime | None:
    return None if value is None else moment(key, value)
