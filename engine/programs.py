"""Programs: the door to what they are, and their TOML; whatever is wrong is one InputError line. Pure."""

import re
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from engine.conditions import Answers
from engine.definition import (
    BULK,
    TRIGGERED,
    Audience,
    Definition,
    Enrol,
    Kind,
    LeaveOn,
    OnEngaged,
    Waived,
    WhenSilent,
    Yearly,
    chosen_stop,
    comes_by,
    first_cycle,
    held_out,
    life_of,
    mails_of,
    next_stop,
    require_reachable,
    require_threshold_in_reach,
    require_time_to_answer,
)
from engine.nodes import (
    ChooseNode,
    EndNode,
    Node,
    Nodes,
    SendNode,
    Step,
    Stop,
    WaitNode,
    hasty_wait,
    line,
    links_asked,
)
from engine.rules import USUALLY
from engine.rules import OnEngaged as Defaults
from engine.tables import Table, decoded, duration, moment, name
from mtad.base.errors import InputError

__all__ = [
    "BULK",
    "TRIGGERED",
    "Answers",
    "Audience",
    "ChooseNode",
    "Definition",
    "EndNode",
    "Node",
    "SendNode",
    "Stop",
    "WaitNode",
    "Yearly",
    "chosen_stop",
    "comes_by",
    "first_cycle",
    "held_out",
    "life_of",
    "links_asked",
    "mails_of",
    "next_stop",
    "parse_program",
    "require_reachable",
    "require_threshold_in_reach",
    "require_time_to_answer",
]

# Between the mails of a reactivation that does not say it.
USUAL_WAIT = "4d"

_RATE = re.compile(r"(\d+)\s*/\s*([smhd])")
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}
_AT = re.compile(r"([01]\d|2[0-3]):([0-5]\d) (\S+)")


class _StepTable(Table, frozen=True, kw_only=True):
    message: str
    wait: str | None = None
    if_: str | None = msgspec.field(name="if", default=None)
    not_after_wait: str | None = None


class _AudienceTable(Table, frozen=True, kw_only=True):
    attributes: dict[str, list[str | int | float | bool]] = msgspec.field(default_factory=dict)


class _YearlyTable(Table, frozen=True, kw_only=True):
    on: str
    at: str = "09:00 UTC"


class _InsteadTable(Table, frozen=True, kw_only=True):
    inactive: str = ""


class _UtmTable(Table, frozen=True, kw_only=True):
    source: str = ""
    medium: str = ""
    campaign: str = ""
    term: str = ""
    content: str = ""
    id: str = ""


class _ProgramTable(Table, frozen=True, kw_only=True):
    name: str
    kind: Kind
    stream: str
    audience: _AudienceTable = _AudienceTable()
    leave_on: tuple[LeaveOn, ...] | None = None
    when_silent: WhenSilent | None = None
    enrol: Enrol | None = None
    yearly: _YearlyTable | None = None
    waives: tuple[Waived, ...] = ()
    start: str | None = None
    not_after: str | None = None
    priority: int = 5
    on_engaged: OnEngaged | None = None
    holdout: float = 0.0
    max_rate: str | None = None
    then: str = ""
    instead: _InsteadTable = _InsteadTable()
    utm: _UtmTable = _UtmTable()
    step: list[_StepTable]


def parse_program(raw: dict[str, Any], *, day: float, window: float, engaged: Defaults = USUALLY) -> Definition:
    """The TOML of a program on a stream with this `day` and `window` (seconds); InputError in one line.

    `engaged` is what the stream does where the program does not say it.

    After the last step a series waits the window, so that the last mail too may be answered.
    """
    table = decoded(raw, _ProgramTable)
    _refuse_what_the_kind_has_not(table)
    start, not_after = _moment("start", table.start), _moment("not_after", table.not_after)
    if start and not_after and not_after <= start:
        raise InputError(f"not_after: must be after start, is {table.not_after}")
    if not 1 <= table.priority <= 9:
        raise InputError(f"priority: 1 to 9, is {table.priority}")
    if not 0 <= table.holdout < 1:
        raise InputError(f"holdout: a share from 0 to below 1, is {table.holdout:g}")
    mail = table.kind == "campaign"
    first, nodes = line(_steps(table, day), last_wait=0.0 if mail else window)
    when_silent: WhenSilent = "nothing"
    if table.kind == "series":
        when_silent = table.when_silent or ("nothing" if table.yearly else "inactive")
    if when_silent == "inactive" or table.kind == "reactivation":
        _refuse_hasty_waits(nodes, window, day)
    leave_on = _leave_on(table, engaged)
    _refuse_deaf_conditions(nodes, leave_on)
    return Definition(
        name=name("name", table.name),
        kind=table.kind,
        stream=name("stream", table.stream),
        class_=TRIGGERED if table.yearly else BULK,
        audience=Audience(dict(table.audience.attributes)),
        leave_on=leave_on,
        when_silent=when_silent,
        enrol=_enrol(table),
        yearly=_yearly(table.yearly),
        waives=table.waives,
        start=start.isoformat() if start else None,
        not_after=not_after.isoformat() if not_after else None,
        priority=table.priority,
        on_engaged=table.on_engaged or (engaged.campaign if mail else "stay"),
        holdout=table.holdout,
        spacing=_spacing(table.max_rate, day),
        then=name("then", table.then) if table.then else "",
        instead=name("instead.inactive", table.instead.inactive) if table.instead.inactive else "",
        utm={key: value for key, value in msgspec.structs.asdict(table.utm).items() if value},
        first=first,
        nodes=nodes,
    )


def _refuse_what_the_kind_has_not(table: _ProgramTable) -> None:
    mail, back = table.kind == "campaign", table.kind == "reactivation"
    if mail and len(table.step) > 1:
        raise InputError(f"step: a campaign is one mail, here are {len(table.step)}; a series takes more")
    if mail and table.leave_on:
        raise InputError('leave_on: only a series has it; a campaign says on_engaged = "leave"')
    if table.when_silent == "inactive" and mail:
        raise InputError("when_silent: only a series may end as inactive; a campaign is one mail")
    if not mail and table.on_engaged is not None:
        raise InputError('on_engaged: only campaigns have it; a series says leave_on = ["engaged"]')
    if table.waives and table.yearly is None:
        raise InputError("waives: only of a yearly program; who is Inactive or left the audience gets no other mail")
    if table.then and table.kind != "series":
        raise InputError(f"then: only a series is left as engaged, this is a {table.kind}")
    if back:
        for key, said in (
            ("leave_on", table.leave_on is not None),
            ("when_silent", table.when_silent is not None),
            ("yearly", table.yearly is not None),
            ("instead", bool(table.instead.inactive)),
            ("if", any(step.if_ is not None for step in table.step)),
        ):
            if said:
                raise InputError(
                    f"{key}: a reactivation has none: who answers has come back and leaves it, who is silent cools down"
                )


def _leave_on(table: _ProgramTable, engaged: Defaults) -> tuple[LeaveOn, ...]:
    if table.leave_on is not None:
        return table.leave_on
    return ("engaged",) if table.kind == "series" and engaged.series == "leave" else ()


def _enrol(table: _ProgramTable) -> Enrol:
    """A reactivation takes people as their cool-downs end, unless it says otherwise."""
    if table.yearly and table.enrol is not None:
        raise InputError("enrol: a yearly program takes people on their day, nobody at once")
    return table.enrol or ("current_and_future" if table.kind == "reactivation" else "current")


def _steps(table: _ProgramTable, day: float) -> list[Step]:
    found = []
    for at, step in enumerate(table.step):
        text = step.wait
        if text is None and at and table.kind == "reactivation":
            text = USUAL_WAIT
        wait = None if text is None else duration(f"step[{at}].wait", text, day)
        life = _life(f"step[{at}].not_after_wait", step.not_after_wait, day)
        found.append(Step(name(f"step[{at}].message", step.message), wait, step.if_, life))
    return found


def _life(key: str, text: str | None, day: float) -> float:
    """Seconds; 0: it does not say."""
    life = 0.0 if text is None else duration(key, text, day)
    if text is not None and not life:
        raise InputError(f"{key}: must be above 0, or the mail is too late when it is due; is {text!r}")
    return life


def _refuse_hasty_waits(nodes: Nodes, window: float, day: float) -> None:
    """A series that ends as inactive must leave each mail as long as an answer may take."""
    if found := hasty_wait(nodes, window):
        key, wait = found
        raise InputError(
            f"step: the wait after {key} is {wait / day:g}d, shorter than the stream's window of {window / day:g}d;"
            f' who had no time to answer would become inactive: wait longer or when_silent = "nothing"'
        )


def _refuse_deaf_conditions(nodes: dict[str, Node], leave_on: tuple[LeaveOn, ...]) -> None:
    """Who answers as the condition asks has left the series by that answer."""
    for key, condition, _ in links_asked(nodes):
        for term in condition.terms:
            if term.holds and (sign := {"opened": "open", "clicked": "click"}[term.what]) in leave_on:
                raise InputError(f"step {key}: if: is never sent, for leave_on has {sign}: who {term.what} has left")


def _yearly(table: _YearlyTable | None) -> Yearly | None:
    if table is None:
        return None
    match = _AT.fullmatch(table.at.strip())
    try:
        if match:
            ZoneInfo(match[3])
            return Yearly(table.on, int(match[1]) * 60 + int(match[2]), match[3])
    except (ValueError, ZoneInfoNotFoundError):
        pass
    raise InputError(f'yearly.at: {table.at!r} is not a time of day; write "09:00 Europe/Berlin"')


def _spacing(text: str | None, day: float) -> float:
    if text is None:
        return 0.0
    match = _RATE.fullmatch(text.strip())
    if not match or not int(match[1]):
        raise InputError(f'max_rate: {text!r} is not a rate; write "5000/h"')
    return float((_PER | {"d": day})[match[2]] / int(match[1]))


def _moment(key: str, value: str | None) -> datetime | None:
    return None if value is None else moment(key, value)
