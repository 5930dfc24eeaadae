"""When silence is not believed: the brake of a sweep, and providers of which we hear too little. Pure.

Whom to leave alone is decided by what we do not hear. If suddenly many are silent at once,
or those of one provider, the fault is more likely ours or the provider's than theirs.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from engine.rules import Brake

# A provider whose signs fall below this part of the usual is held.
LEAST_PART = 1 / 3

# Fewer signs than this are expected too often by chance: of 20 expected, a third or less come once in 3,000 times.
LEAST_EXPECTED = 20.0


class Signs(msgspec.Struct, frozen=True):
    """What was heard from the contacts of one provider in some span."""

    mails: int  # delivered, and a sign of them could have been seen
    answered: int  # of these, with a human sign

    @property
    def rate(self) -> float:
        return self.answered / self.mails if self.mails else 0.0


def may_pause(brake: Brake, *, reachable: int, paused: int) -> int:
    """How many more of a stream a sweep may pause, after `paused` within the last 24 hours.

    `reachable`: who might be mailed when these 24 hours began. A sweep with more than that
    pauses none of them: it stops until somebody has looked.
    """
    return max(0, max(int(reachable * brake.share), brake.least) - paused)


def heard_until(mailed: datetime, due: datetime, wait: float, outages: Iterable[tuple[datetime, datetime]]) -> datetime:
    """When a mail that came at `mailed` has been listened to for `wait` seconds, where that should be by `due`.

    `due`, unless nobody listened for part of that time; `outages` do not overlap.
    """
    deaf = sum(
        (min(until, due) - max(since, mailed) for since, until in outages if until > mailed and since < due),
        timedelta(),
    )
    least = min(timedelta(seconds=wait), due - mailed)
    return due + max(timedelta(), least - (due - mailed - deaf))


def held_providers(usual: Mapping[str, Signs], lately: Mapping[str, Signs]) -> dict[str, str]:
    """Providers whose windows must not close now, and why in a sentence.

    `usual`: signs of some weeks; `lately`: those of the last mails that have had their time.
    One that was not mailed before, or hardly, cannot be judged.
    """
    held: dict[str, str] = {}
    for provider, now in sorted(lately.items()):
        expected = usual.get(provider, Signs(0, 0)).rate * now.mails
        if expected >= LEAST_EXPECTED and now.answered < expected * LEAST_PART:
            held[provider] = (
                f"{provider}: {now.answered:,} of {now.mails:,} mails were answered, where {expected:,.0f} is usual;"
                " its silence is not believed until more is heard"
            )
    return held
