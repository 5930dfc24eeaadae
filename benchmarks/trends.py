"""Does a figure stay where it is? Pure: samples in, a trend out."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import linear_regression, median

import msgspec

# By how much the last quarter may exceed the second and still be called flat. The first is left out:
# caches fill, sessions open, vacuum comes round for the first time.
TOLERANCE = 0.05


class Trend(msgspec.Struct, frozen=True):
    """A figure over time. The quarters are medians."""

    first: float
    last: float
    most: float
    second_quarter: float
    last_quarter: float
    slope_per_hour: float  # of a straight line through all but the first quarter
    flat: bool


def trend(times: Sequence[float], values: Sequence[float], *, slack: float) -> Trend:
    """The trend of `values` at `times` (seconds, rising); at least one of them.

    Flat: the last quarter is not above the second by more than 5 % and `slack`, in the
    figure's own unit; of what is small, 5 % would be noise.
    """
    quarter = len(values) // 4
    settled = values[quarter:]
    second, last = median(values[quarter : 2 * quarter] or values), median(values[3 * quarter :])
    slope = 0.0
    if len(settled) > 1:
        slope = linear_regression(times[quarter:], settled).slope * 3600
    return Trend(
        first=round(values[0], 3),
        last=round(values[-1], 3),
        most=round(max(values), 3),
        second_quarter=round(second, 3),
        last_quarter=round(last, 3),
        slope_per_hour=round(slope, 3),
        flat=last <= second * (1 + TOLERANCE) + slack,
    )


def between(before: dict[float, float], after: dict[float, float]) -> dict[float, float]:
    """What a cumulative histogram saw between two looks, as one; `before` may be empty."""
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def steps(cumulative: Sequence[dict[float, float]]) -> list[dict[float, float]]:
    """What a histogram saw from each look to the next, from its beginning."""
    return [between(one, two) for one, two in pairwise([{}, *cumulative])]
