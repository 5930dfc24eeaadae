"""The way through a program: nodes under string keys, and where somebody stands next. Pure.

    send → wait → send → … → end
                → choose → send, or behind the group

A send node's key is the name of its message; all other keys have a space in them, which no
name has. Entries and jobs keep node keys, so a key never changes its meaning in a program.
Steps with an `if` that follow each other, and the one without behind them, are a group:
they have one wait, and after it the first whose condition holds is sent.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from engine.conditions import Answers, Condition, parse_condition, require_reachable_steps
from mtad.base.errors import InputError

END = "end"


class SendNode(msgspec.Struct, frozen=True, tag="send"):
    """Send a message, within `life` seconds of when it is due if that is above 0, then go on."""

    message: str
    next: str
    life: float = 0.0


class WaitNode(msgspec.Struct, frozen=True, tag="wait"):
    """Let time pass since the delivery of the send node before."""

    seconds: float
    next: str


class Option(msgspec.Struct, frozen=True):
    """One step of a group: where to go if its condition holds."""

    if_: str = msgspec.field(name="if")
    next: str


class ChooseNode(msgspec.Struct, frozen=True, tag="choose"):
    """The first option whose condition holds; else go on to `otherwise`.

    `about`: the send nodes of which one was the last mail. Where it was another, because
    one was skipped, nothing is known, and no condition holds.
    """

    options: tuple[Option, ...]
    otherwise: str
    about: tuple[str, ...]


class EndNode(msgspec.Struct, frozen=True, tag="end"):
    """The way is over."""


Node = SendNode | WaitNode | ChooseNode | EndNode
Nodes = Mapping[str, Node]


class Stop(msgspec.Struct, frozen=True):
    """Where somebody stands next, and after how many seconds."""

    node: str
    wait: float
    ends: bool


class Step(msgspec.Struct, frozen=True):
    """One step of a file: `wait` None joins the group of the step before."""

    message: str
    wait: float | None = None
    if_: str | None = None
    life: float = 0.0


def stop_at(nodes: Nodes, key: str) -> Stop:
    """From a node over the waits, which add up, to the next that is none: a send node, a choice or the end."""
    wait = 0.0
    while isinstance(at := nodes[key], WaitNode):
        wait += at.seconds
        key = at.next
    return Stop(key, wait, isinstance(at, EndNode))


def hasty_wait(nodes: Nodes, window: float) -> tuple[str, float] | None:
    """A mail whose reader has less than `window` seconds to answer before the next, and how many; None: all have."""
    for key, node in nodes.items():
        if isinstance(node, SendNode) and not (stop := stop_at(nodes, node.next)).ends and stop.wait < window:
            return key, stop.wait
    return None


def choice(nodes: Nodes, key: str, last: str | None, answers: Answers | None) -> Stop:
    """Where a choice leads; `last`: the send node of the last mail, `answers`: to it, None where we cannot know."""
    node = nodes[key]
    if not isinstance(node, ChooseNode):
        raise TypeError(f"{key} is no choice")
    known = answers if last in node.about else None
    for option in node.options:
        if parse_condition("if", option.if_).holds(known):
            return Stop(option.next, 0.0, ends=False)
    return stop_at(nodes, node.otherwise)


def mails(nodes: Nodes, first: str) -> list[str]:
    """All send nodes, in the order of the file."""
    return [key for group in groups(nodes, first) for key in group]


def groups(nodes: Nodes, first: str) -> Iterator[tuple[str, ...]]:
    """The send nodes by group, in order; who passes gets at most one of each."""
    key = first
    while not isinstance(at := nodes[key], EndNode):
        if isinstance(at, ChooseNode):
            also = (at.otherwise,) if isinstance(nodes[at.otherwise], SendNode) else ()
            sends = (*(option.next for option in at.options), *also)
        elif isinstance(at, SendNode):
            sends = (key,)
        else:
            raise TypeError(f"{key} is no stop")
        yield sends
        key = stop_at(nodes, _next(nodes[sends[0]])).node


def links_asked(nodes: Nodes) -> Iterator[tuple[str, Condition, tuple[str, ...]]]:
    """(send node, its condition, the mails that it may be about) of every step with an `if`."""
    for node in nodes.values():
        if isinstance(node, ChooseNode):
            for option in node.options:
                yield option.next, parse_condition("if", option.if_), node.about


def line(steps: Sequence[Step], *, last_wait: float) -> tuple[str, dict[str, Node]]:
    """Steps as nodes: the key of the first, and all of them. InputError names the step."""
    if not steps:
        raise InputError("step: at least one is needed")
    names = [step.message for step in steps]
    for name in names:
        if name == END:
            raise InputError(f"step: message {name!r} is a reserved name")
        if names.count(name) > 1:
            raise InputError(f"step: message {name!r} stands there twice")
    if steps[0].wait is not None:
        raise InputError("step[0].wait: the first mail is sent at once; program start has its own key")
    if steps[0].if_ is not None:
        raise InputError("step[0].if: there is no mail before the first that somebody could have answered")
    grouped = _grouped(steps)
    nodes: dict[str, Node] = {END: EndNode()}
    about: tuple[str, ...] = ()
    for number, group in enumerate(grouped):
        after = grouped[number + 1] if number + 1 < len(grouped) else None
        wait = last_wait if after is None else after[0].wait or 0.0
        stop = END if after is None else _head(after)
        for step in group:
            nodes[step.message] = SendNode(
                step.message, _waiting(nodes, f"after {step.message}", wait, stop), step.life
            )
        about = _choose(nodes, group, about, wait, stop)
    return steps[0].message, nodes


def _choose(
    nodes: dict[str, Node], group: Sequence[Step], about: tuple[str, ...], wait: float, stop: str
) -> tuple[str, ...]:
    """The choice before a group, where it has conditions; which mails may be the last behind the group."""
    sends = tuple(step.message for step in group)
    if group[0].if_ is None:
        return sends
    options = tuple(Option(step.if_, step.message) for step in group if step.if_ is not None)
    everybody = group[-1].if_ is None
    otherwise = group[-1].message if everybody else _waiting(nodes, f"past {group[0].message}", wait, stop)
    nodes[_head(group)] = ChooseNode(options, otherwise, about)
    return sends if everybody else (*about, *sends)


def _waiting(nodes: dict[str, Node], key: str, wait: float, stop: str) -> str:
    """The key of a wait before `stop`, which is made; without a wait, `stop`."""
    if not wait:
        return stop
    nodes[key] = WaitNode(wait, stop)
    return key


def _head(group: Sequence[Step]) -> str:
    return group[0].message if group[0].if_ is None else f"choose {group[0].message}"


def _grouped(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps by group, checked."""
    found: list[list[Step]] = []
    for at, step in enumerate(steps):
        if step.wait is not None or at == 0:
            found.append([step])
        elif found[-1][-1].if_ is None:
            raise InputError(f'step[{at}].wait: is missing; write wait = "3d", counted from the delivery before')
        else:
            found[-1].append(step)
    at = 0
    for group in found:
        conditions = [
            None if s.if_ is None else parse_condition(f"step[{at + n}].if", s.if_) for n, s in enumerate(group)
        ]
        require_reachable_steps("step", conditions, first=at)
        at += len(group)
    return found


def _next(node: Node) -> str:
    if not isinstance(node, SendNode):
        raise TypeError("a group has send nodes only")
    return node.next
