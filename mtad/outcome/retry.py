"""When to try again. Pure."""


def delay_before_retry(
    attempt: int,
    *,
    first: float,
    ceiling: float,
    luck: float,
    factor: float = 2.0,
    jitter: float = 0.5,
    after: float | None = None,
) -> float:
    """Seconds until the next attempt, after `attempt` attempts failed (1 or more).

    The delay grows by `factor` (1 or more) from `first` up to `ceiling`, and the part
    `jitter` of it is random: `luck` is a random number in [0, 1), so mails that failed
    together do not come back together. `after` is what the server asked for; never
    earlier than that, and up to a quarter later.
    """
    try:
        grown = first * factor ** (attempt - 1)
    except OverflowError:
        grown = ceiling
    delay = min(ceiling, grown) * (1 - jitter * (1 - luck))
    return delay if after is None else max(delay, after * (1 + luck / 4))
