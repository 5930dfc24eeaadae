"""When to try again. Pure."""

# 2^40 times any first delay is above every ceiling, and far from an overflow.
_MOST_DOUBLINGS = 40


def delay_before_retry(attempt: int, *, first: float, ceiling: float, luck: float, after: float | None = None) -> float:
    """Seconds until the next attempt, after `attempt` attempts failed (1 or more).

    The delay doubles from `first` up to `ceiling`, and half of it is jitter: `luck` is a
    random number in [0, 1), so mails that failed together do not come back together.
    `after` is what the server asked for; never earlier than that, and up to a quarter later.
    """
    whole = min(ceiling, first * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS))
    delay = whole / 2 * (1 + luck)
    return delay if after is None else max(delay, after * (1 + luck / 4))
