"""What time alone does to a contact on a stream: windows that close, days without a sign, cool-downs. Pure.

A timer is an event of the state table at an exact time, so it makes no difference when
a sweep comes round to it.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from engine.policy import Policy
from engine.states import Event, Kind, Row, State

_MAILED = (State.ACTIVE, State.ENGAGED, State.REACTIVATED)


def next_timer(row: Row, policy: Policy, after: datetime) -> Event | None:
    """What happens next if nobody does anything; `after`: the time of the last event that was applied.

    Its time is never before `after`, for what became true by that event happens with it.
    At one moment a window closes before days are counted.
    """
    return min(_timers(row, policy, after), key=lambda timer: timer.at, default=None)


def _timers(row: Row, policy: Policy, after: datetime) -> Iterator[Event]:
    if row.state is State.COOLING:
        if row.cool_until is not None and row.cool_until > after:
            yield Event(Kind.COOL_DOWN_OVER, row.cool_until, f"cool-down {row.cycle} over")
        return
    if row.state not in _MAILED:
        return
    if row.window_until is not None:
        yield _window(row, policy, max(row.window_until, after))
    heard = row.last_sign or row.first_sent
    if heard is None:
        return
    day = timedelta(seconds=policy.day)
    if row.ignored >= policy.days_need_attempts:
        yield _days(max(heard + policy.days * day, after), policy.days)
    elif row.ignored + row.unclear >= policy.days_need_attempts:
        yield _days(max(heard + policy.days_unclear * day, after), policy.days_unclear)


def _window(row: Row, policy: Policy, at: datetime) -> Event:
    if row.veiled:
        return Event(Kind.WINDOW_UNCLEAR, at, "window closed unclear")
    attempt = row.ignored + 1
    kind = Kind.WINDOW_IGNORED if attempt < policy.attempts else Kind.WINDOW_LAST
    return Event(kind, at, f"ignored attempt {attempt} of {policy.attempts}")


def _days(at: datetime, days: int) -> Event:
    return Event(Kind.DAYS_OVER, at, f"no sign for {days} days")
