"""The table [policy] of a stream's file, read as a policy. Pure.

A policy that contradicts itself is refused with the reason: it would not fail,
it would quietly pause or praise the wrong people.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from datetime import time
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec

from engine.rules import BRAKE, MOST_CAP, REPORTS, USUALLY, Brake, EventRule, OnEngaged, Points, Policy
from engine.slots import EVERY_DAY, Cap, Quiet, Slots
from engine.tables import Table, duration, name
from mtad.base.errors import InputError

# A sign of more would be a threshold by itself; the column ends at 32,767.
MOST_POINTS = 1000

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Preset = Literal["series", "newsletter"]

# A host before the first slash, so that a pattern cannot mean everybody's pages.
_PAGE = re.compile(r"[a-z0-9.-]+(?::\d+)?/[!-~]*")

WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)

# What a preset says where the file says nothing. A newsletter has no end at which silence
# is concluded, and is read by people who skip many.
PRESETS: dict[str, dict[str, Any]] = {
    "series": {},
    "newsletter": {"attempts": 8, "days": 180, "days_unclear": 360},
}


class CapTable(Table, frozen=True, kw_only=True):
    """`{ most = 2, window = "7d" }`, of this stream's mail; `streams = "all"`: of all mail together."""

    most: int
    window: str
    streams: Literal["this", "all"] = "this"
    name: str = ""
    """Stands in reasons; '' is '2/7d', over all streams '2/7d/all'."""
    used_up: Literal["defer", "skip"] = "defer"
    """What becomes of a mail too many: it waits for the next free slot, or is not sent."""


class PolicyTable(Table, frozen=True, kw_only=True):
    """The table [policy] of a stream's file."""

    preset: Preset = "series"
    points: Points = Points()
    events: tuple[EventRule, ...] = ()
    pages: tuple[str, ...] = ()
    threshold: int = 20
    points_last: str = ""
    window: str = "3d"
    attempts: int = 5
    days: int = 90
    days_unclear: int = 180
    days_need_attempts: int = 2
    cool_downs: tuple[str, ...] = ("30d", "90d")
    settle: str = "5s"
    day: str = "1d"
    missing_limit: float = 0.02
    missing_least: int = 50
    caps: tuple[CapTable, ...] = ()
    quiet_hours: str = ""
    sending_days: tuple[Weekday, ...] = WEEKDAYS
    zone: str = ""
    on_engaged: OnEngaged = USUALLY
    brake: Brake = BRAKE


def with_preset(raw: dict[str, Any]) -> dict[str, Any]:
    """The table [policy] with what its preset says under what it says itself."""
    preset = raw.get("preset")
    return {**PRESETS.get(preset, {}), **raw} if isinstance(preset, str) else raw


def parse_policy(table: PolicyTable) -> Policy:
    """The table as a policy; InputError in one line for whatever is wrong or contradicts itself."""
    day = duration("policy.day", table.day)
    if day == 0:
        raise InputError("policy.day: must be above 0")
    policy = Policy(
        points=table.points,
        events=table.events,
        pages=table.pages,
        threshold=table.threshold,
        points_last=_points_last(table.points_last, day),
        window=duration("policy.window", table.window, day),
        attempts=table.attempts,
        days=table.days,
        days_unclear=table.days_unclear,
        days_need_attempts=table.days_need_attempts,
        cool_downs=tuple(duration("policy.cool_downs", text, day) for text in table.cool_downs),
        settle=duration("policy.settle", table.settle, day),
        day=day,
        missing_limit=table.missing_limit,
        missing_least=table.missing_least,
        slots=_slots(table, day),
        zone=_zone(table.zone),
        on_engaged=table.on_engaged,
        brake=table.brake,
    )
    _refuse_contradictions(policy)
    return policy


def _points_last(text: str, day: float) -> float:
    lasting = duration("policy.points_last", text, day) if text else 0.0
    if text and not lasting:
        raise InputError("policy.points_last: must be above 0; leave it out, and they last as long as the round")
    return lasting


def _slots(table: PolicyTable, day: float) -> Slots:
    if not table.sending_days:
        raise InputError("policy.sending_days: at least one is needed, or nothing is ever sent")
    caps: dict[str, tuple[Cap, ...]] = {"this": (), "all": ()}
    names: set[str] = set()
    for at, cap in enumerate(table.caps):
        key = f"policy.caps[{at}]"
        window = duration(f"{key}.window", cap.window, day)
        if window == 0:
            raise InputError(f"{key}.window: must be above 0")
        if not 1 <= cap.most <= MOST_CAP:
            raise InputError(f"{key}.most: 1 to {MOST_CAP}, is {cap.most}")
        plain = f"{cap.most}/{cap.window.strip()}" + ("/all" if cap.streams == "all" else "")
        called = name(f"{key}.name", cap.name) if cap.name else plain
        if called in names:
            raise InputError(f"{key}.name: {called!r} is the name of another cap; reasons must tell them apart")
        names.add(called)
        caps[cap.streams] += (Cap(cap.most, window, called, cap.used_up == "skip"),)
    _refuse_idle_caps(caps["this"], caps["all"])
    days = EVERY_DAY & {WEEKDAYS.index(day) for day in table.sending_days}
    return Slots(caps=caps["this"], caps_all=caps["all"], quiet=_quiet(table.quiet_hours), days=days)


def _quiet(text: str) -> Quiet | None:
    if not text:
        return None
    try:
        start, end = (time.fromisoformat(part.strip()) for part in text.split("-"))
    except ValueError:
        raise InputError(f'policy.quiet_hours: {text!r} are no hours; write "21:00-07:00"') from None
    if start.tzinfo or end.tzinfo:
        raise InputError("policy.quiet_hours: are in each contact's own zone, so they name none")
    if start == end:
        raise InputError(f"policy.quiet_hours: {text} is all day or never; nothing would ever be sent, or leave it out")
    return Quiet(start, end)


def _zone(name: str) -> str:
    if name:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise InputError(f"policy.zone: {name!r} is no time zone; write one such as Europe/Berlin") from None
    return name


def _refuse_idle_caps(this: Sequence[Cap], over_all: Sequence[Cap]) -> None:
    """A cap that another one keeps anyway is a mistake in one of the two."""
    for cap, other in itertools.chain(
        itertools.permutations(this, 2), itertools.permutations(over_all, 2), itertools.product(this, over_all)
    ):
        if other.most <= cap.most and other.window >= cap.window:
            raise InputError(
                f"policy.caps: {_words(cap)} never binds, for {_words(other)} is stricter;"
                " leave one out or correct the other"
            )


def _words(cap: Cap) -> str:
    return f"{cap.most} in {cap.window:g} s"


def _refuse_contradictions(policy: Policy) -> None:
    points = policy.points
    worth = [(f"points.{key}", value) for key, value in msgspec.structs.asdict(points).items()]
    worth += [(f"events[{at}].points", rule.points) for at, rule in enumerate(policy.events)]
    for key, value in worth:
        if not 0 <= value <= MOST_POINTS:
            raise InputError(f"policy.{key}: 0 to {MOST_POINTS}, is {value}")
    for key in ("threshold", "attempts", "days", "days_unclear", "days_need_attempts", "missing_least"):
        if getattr(policy, key) < 1:
            raise InputError(f"policy.{key}: must be 1 or more, is {getattr(policy, key)}")
    if policy.window == 0:
        raise InputError("policy.window: must be above 0, or nobody has time to answer")
    if not any(value for _, value in worth):
        raise InputError(f"policy.threshold: {policy.threshold} cannot be reached, for no sign earns points")
    if policy.days_unclear < policy.days:
        raise InputError(
            f"policy.days_unclear: {policy.days_unclear} is below days, {policy.days}:"
            " who may have opened would be paused before who ignored us"
        )
    _refuse_cool_downs(policy.cool_downs)
    _refuse_shadows(policy.events)
    for page in policy.pages:
        if not _PAGE.fullmatch(page):
            raise InputError(f'policy.pages: write host and path, such as "www.example.com/prices*", is {page!r}')
    for key, share in (("missing_limit", policy.missing_limit), ("brake.share", policy.brake.share)):
        if not 0 < share <= 1:
            raise InputError(f"policy.{key}: a share above 0 and up to 1, is {share}")
    if policy.brake.least < 1:
        raise InputError(f"policy.brake.least: must be 1 or more, is {policy.brake.least}")


def _refuse_cool_downs(cool_downs: Sequence[float]) -> None:
    if not cool_downs:
        raise InputError("policy.cool_downs: at least one is needed")
    if list(cool_downs) != sorted(cool_downs):
        raise InputError("policy.cool_downs: must not shrink, for who stayed silent longer is asked less often")


def _refuse_shadows(events: Iterable[EventRule]) -> None:
    """A rule without `where` takes every event of its name, so what stands behind it never counts."""
    taken: set[str] = set()
    for at, rule in enumerate(events):
        if rule.event in REPORTS:
            raise InputError(f"policy.events[{at}]: {rule.event!r} is a report about mail, no sign of a person")
        if rule.event in taken:
            raise InputError(f"policy.events[{at}]: never counts, for a rule for every {rule.event!r} stands before it")
        if not rule.where:
            taken.add(rule.event)
