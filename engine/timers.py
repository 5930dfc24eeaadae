"""What time alone does to a contact on a stream: windows that close, days without a sign, cool-downs. Pure.

A timer is an event of the state table at an exact time, so it makes no difference when
a sweep comes round to it.
"""

from datetime import datetime, timedelta

from engine.policy import Policy
from engine.states import Event, Kind, Row, State

_MAILED = (State.ACTIVE, State.ENGAGED, State.REACTIVATED)


def next_timer(row: Row, policy: Policy, after: datetime) -> Event | None:
    """What happens next if nobody does anything; `after`: the time of the last event that was applied.

    Its time is never before `after`, for what became true by that event happens with it.
    At one moment a window closes before days are counted.
    """
    at = next_at(row, policy, after)
    if at is None:
        return None
    if row.state is State.COOLING:
        return Event(Kind.COOL_DOWN_OVER, at, f"cool-down {row.cycle} over")
    if row.window_until is not None and row.window_until <= at:
        return _window(row, policy, at)
    return Event(Kind.DAYS_OVER, at, f"no sign for {_days(row, policy)} days")


def next_at(row: Row, policy: Policy, after: datetime) -> datetime | None:
    """When that is; it is asked for each fact, and mostly in vain."""
    if row.state is State.COOLING:
        return row.cool_until if row.cool_until is not None and row.cool_until > after else None
    if row.state not in _MAILED:
        return None
    at = row.window_until
    heard = row.last_sign or row.first_sent
    if heard is not None and (days := _days(row, policy)):
        over = heard + timedelta(seconds=days * policy.day)
        at = over if at is None or over < at else at
    return at if at is None or at > after else after


def cool_until(row: Row, policy: Policy) -> datetime | None:
    """When a cool-down that runs is over by these rules; never later than it was said when it began."""
    if row.cool_until is None or row.cycle == 0:
        return row.cool_until
    length = policy.cool_downs[min(row.cycle, len(policy.cool_downs)) - 1]
    return min(row.cool_until, row.since + timedelta(seconds=length))


def _days(row: Row, policy: Policy) -> int:
    """How many without a sign make somebody Inactive; 0: none do yet."""
    if row.ignored >= policy.days_need_attempts:
        return policy.days
    return policy.days_unclear if row.ignored + row.unclear >= policy.days_need_attempts else 0


def _window(row: Row, policy: Policy, at: datetime) -> Event:
    if row.veiled:
        return Event(Kind.WINDOW_UNCLEAR, at, "window closed unclear")
    attempt = row.ignored + 1
    kind = Kind.WINDOW_IGNORED if attempt < policy.attempts else Kind.WINDOW_LAST
    return Event(kind, at, f"ignored attempt {attempt} of {policy.attempts}")
