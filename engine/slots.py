"""When may this mail go: frequency caps, quiet hours and sending days, exactly. Pure.

Quiet hours and days are wall-clock times of the contact's zone. Of wall times that do not
exist, the first moment after the gap counts; of those that exist twice, quiet hours start
at the first and end at the second, so that nobody is woken early.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

# A mail that may not go within this time is not sent at all.
LONGEST_WAIT = timedelta(days=14)

EVERY_DAY = frozenset(range(7))

_DAY = timedelta(days=1)


class Cap(msgspec.Struct, frozen=True):
    """At most `most` mails in any window of so many seconds; a mail too many waits, or is skipped."""

    most: int
    window: float
    name: str  # stands in reasons: cap:name
    skip: bool = False


class Quiet(msgspec.Struct, frozen=True):
    """From `start` up to, not including, `end`; over midnight where `end` is the earlier one. They differ."""

    start: time
    end: time


class Slots(msgspec.Struct, frozen=True):
    """The rules of a stream about when it may mail."""

    caps: tuple[Cap, ...] = ()  # of this stream's mail
    caps_all: tuple[Cap, ...] = ()  # of the mail of all streams together
    quiet: Quiet | None = None
    days: frozenset[int] = EVERY_DAY  # Monday is 0; at least one

    @property
    def hold_nothing(self) -> bool:
        """No moment breaks a rule, whatever was sent."""
        return not (self.caps or self.caps_all or self.quiet or self.days != EVERY_DAY)


class Slot(msgspec.Struct, frozen=True):
    """When, and which rule decided it: '' (now), cap:name, quiet_hours or sending_day."""

    at: datetime
    why: str
    skip: bool = False  # a cap is used up that lets nothing wait


def earliest(
    now: datetime,
    rules: Slots,
    zone: ZoneInfo,
    *,
    sent: Sequence[datetime],
    sent_all: Sequence[datetime],
    latest: datetime,
) -> Slot | None:
    """The least moment from `now` on that breaks no rule; None if it lies behind `latest` or 14 days.

    A cap that lets nothing wait ends the search where it is met: `skip` of what is returned.
    `sent` and `sent_all`: when mail of the stream, of all streams, went to this contact; in
    order, at least as many of the last ones as any cap allows.
    """
    last = min(latest, now + LONGEST_WAIT)
    found = Slot(now, "")
    while found.at <= last:
        moved = _end_of_what_is_broken(found.at, rules, zone, sent, sent_all)
        if moved is None:
            return found
        if moved.skip:
            return moved
        # Every rule only moves forward, and the wait is bounded, so this ends.
        found = moved
    return None


def _end_of_what_is_broken(
    at: datetime, rules: Slots, zone: ZoneInfo, sent: Sequence[datetime], sent_all: Sequence[datetime]
) -> Slot | None:
    """The end of the first rule that a mail at `at` would break; None: it breaks none."""
    for caps, times in ((rules.caps, sent), (rules.caps_all, sent_all)):
        for cap in caps:
            if (moved := _free(at, cap, times)) > at:
                return Slot(moved, f"cap:{cap.name}", cap.skip)
    if rules.quiet and (moved := _after_quiet(at, rules.quiet, zone)) > at:
        return Slot(moved, "quiet_hours")
    if (moved := _on_a_day(at, rules.days, zone)) > at:
        return Slot(moved, "sending_day")
    return None


def _free(at: datetime, cap: Cap, sent: Sequence[datetime]) -> datetime:
    window = timedelta(seconds=cap.window)
    last = bisect_right(sent, at)
    return at if last - bisect_right(sent, at - window) < cap.most else sent[last - cap.most] + window


def _after_quiet(at: datetime, quiet: Quiet, zone: ZoneInfo) -> datetime:
    today = at.astimezone(zone).date()
    for day in (today - _DAY, today, today + _DAY):
        start, end = _quiet_night(day, quiet, zone)
        if start <= at < end:
            return end
    return at


@lru_cache(maxsize=4096)
def _quiet_night(day: date, quiet: Quiet, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The quiet hours that start on this day."""
    ends = day if quiet.start < quiet.end else day + _DAY
    start = _moment(datetime.combine(day, quiet.start), zone, second=False)
    return start, _moment(datetime.combine(ends, quiet.end), zone, second=True)


def _on_a_day(at: datetime, days: frozenset[int], zone: ZoneInfo) -> datetime:
    if days == EVERY_DAY:
        return at
    day = at.astimezone(zone).date()
    if day.weekday() in days:
        return at
    while True:
        day += _DAY
        begin = _moment(datetime.combine(day, time()), zone, second=False)
        if day.weekday() in days and begin > at:
            return begin


@lru_cache(maxsize=4096)
def _moment(wall: datetime, zone: ZoneInfo, *, second: bool) -> datetime:
    """A wall time as a moment in UTC: the first or the second of two, the end of the gap if there is none."""
    found = wall.replace(tzinfo=zone, fold=int(second)).astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == wall:
        return found
    # In a gap: fold=1 reads it with the offset after, so a moment before the change; fold=0 one behind it.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    behind = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    offset = behind.astimezone(zone).utcoffset()
    # Clocks change on whole seconds.
    low, high = 0, int((behind - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if (before + timedelta(seconds=middle)).astimezone(zone).utcoffset() == offset:
            high = middle
        else:
            low = middle
    return before + timedelta(seconds=high)
