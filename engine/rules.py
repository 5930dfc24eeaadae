"""The rules by which a stream's audience contracts and expands: its policy. Pure; engine/policytable.py reads it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from engine.slots import EVERY_DAY, Slots
from engine.tables import DAY, Table, matches

# A contact's last sends on a stream are kept up to this many (engine/README.md, Slots).
MOST_CAP = 16

# Events that tell what came back by mail (engine/reports.py), not what somebody did.
REPORTS = frozenset({"bounced", "complained", "out_of_office"})

Engaged = Literal["leave", "stay"]


class Points(Table, frozen=True, kw_only=True):
    """What a first human sign of each kind is worth, once per message."""

    open: int = 5
    click: int = 10
    page: int = 15


class EventRule(Table, frozen=True, kw_only=True):
    """What an event without a mail is worth (login, purchase, reply); no points: a human sign, no more."""

    event: str
    where: dict[str, list[str | int | float | bool]] = msgspec.field(default_factory=dict)
    """Every property named has one of the values."""
    points: int = 0


class OnEngaged(Table, frozen=True, kw_only=True):
    """What becoming Engaged does in the stream's programs that do not say so themselves."""

    series: Engaged = "leave"
    campaign: Engaged = "stay"


class Brake(Table, frozen=True, kw_only=True):
    """How many sweeps may pause within 24 hours: this share of the reachable, and never fewer than `least`."""

    share: float = 0.05
    least: int = 100


USUALLY = OnEngaged()
BRAKE = Brake()


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a stream. Spans are in seconds; `days…` are counts of `day`."""

    points: Points = Points()
    events: tuple[EventRule, ...] = ()  # the first that fits counts
    pages: tuple[str, ...] = ()  # of high intent: host and path, * for anything; once each and day
    threshold: int = 20
    points_last: float = 0.0  # so long after they were earned; 0: as long as the round
    window: float = 3 * DAY
    attempts: int = 5
    days: int = 90
    days_unclear: int = 180
    days_need_attempts: int = 2
    cool_downs: tuple[float, ...] = (30 * DAY, 90 * DAY)
    settle: float = 5.0
    day: float = DAY
    missing_limit: float = 0.02  # share of a program's mails that may fail for one content reason
    missing_least: int = 50  # and at least this many, before it pauses itself
    slots: Slots = Slots()
    zone: str = ""  # of contacts that have none and whose country does not tell; '' is the server's, UTC
    on_engaged: OnEngaged = USUALLY
    brake: Brake = BRAKE

    def event(self, name: str, properties: Mapping[str, Any]) -> EventRule | None:
        """The rule for an event; None: it is no sign of a person on this stream."""
        return next((rule for rule in self.events if rule.event == name and matches(rule.where, properties)), None)

    def advice(self) -> Iterator[tuple[str, str]]:
        """What is allowed, but seldom meant: what it comes to, and a line of the file that would mend it."""
        windows = self.window / self.day
        if not 2 <= windows <= 7:
            what = "too short for people who are away" if windows < 2 else "so long that silence is noticed late"
            yield f"windows of {windows:g} days are {what}", 'window = "3d"'
        if self.days < windows * self.attempts:
            days = math.ceil(windows * self.attempts)
            yield f"{self.days} days are over before {self.attempts} attempts can be", f"days = {days}"
        rules = self.slots
        if not (rules.caps or rules.caps_all):
            yield "nothing limits how often somebody is mailed", 'caps = [{ most = 3, window = "7d" }]'
        if rules.quiet is None:
            yield "mail goes at any hour of the night", 'quiet_hours = "21:00-07:00"'
        if (rules.quiet or rules.days != EVERY_DAY) and not self.zone:
            yield "whose zone nobody knows is held to the hours of UTC", 'zone = "Europe/Berlin"'
