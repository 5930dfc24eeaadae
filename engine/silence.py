"""When silence is not believed: a sweep's brake, providers of which too little is heard, a tracker out of reach. Pure.

Whom to leave alone is decided by what we do not hear. If suddenly many are silent at once,
or those of one provider, the fault is more likely ours or the provider's than theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from engine.rules import Brake

# A provider whose signs fall below this part of the usual is held.
LEAST_PART = 1 / 3

# Fewer signs than this are expected too often by chance: of 20 expected, a third or less come once in 3,000 times.
LEAST_EXPECTED = 20.0

# Who is held where nothing is heard of anybody; no provider is called that.
EVERYBODY = "*"


class Signs(msgspec.Struct, frozen=True):
    """What was heard of a sample of the mail that a provider took in some span."""

    at: datetime  # when the span began
    mails: int
    answered: int  # of these, with a human sign within half a window


class Finding(msgspec.Struct, frozen=True):
    """Why the silence of a provider is not believed, and since when."""

    since: datetime
    why: str  # '': as it was said when it began


def may_pause(brake: Brake, *, reachable: int, paused: int) -> int:
    """How many more of a stream a sweep may pause, after `paused` within the last 24 hours.

    `reachable`: who might be mailed when these 24 hours began. A sweep with more than that
    pauses none of them: it stops until somebody has looked.
    """
    return max(0, max(int(reachable * brake.share), brake.least) - paused)


def heard_until(mailed: datetime, due: datetime, wait: float, outages: Iterable[tuple[datetime, datetime]]) -> datetime:
    """When a mail that came at `mailed` has been listened to for `wait` seconds, where that should be by `due`.

    `due`, unless nobody listened for part of that time.
    """
    deaf, heard = timedelta(), mailed
    for since, until in sorted(outages):
        begins, ends = max(since, heard), min(until, due)
        if begins < ends:
            deaf, heard = deaf + (ends - begins), ends
    least = min(timedelta(seconds=wait), due - mailed)
    return due + max(timedelta(), least - (due - mailed - deaf))


def findings(signs: Mapping[str, Sequence[Signs]], held: Mapping[str, datetime]) -> dict[str, Finding]:
    """Providers whose windows must not close now; `held`: those of before, and since when.

    What was heard lately of a provider, in as few spans as it takes to expect enough, is compared
    with what was usual before, as far as the others kept to what is usual: when all say less,
    the mail is duller, or sent to duller people; where nothing at all is heard, see `unheard`.
    One that is held stays so until it is heard again, or what was usual is forgotten.
    """
    found = {}
    for provider in sorted(signs):
        others = [spans for name, spans in signs.items() if name != provider]
        if one := _finding(provider, signs[provider], others, held.get(provider)):
            found[provider] = one
    return found


def unheard(signs: Mapping[str, Sequence[Signs]]) -> Finding | None:
    """Why the silence of everybody is not believed: not one answer to the latest mail, where enough would be usual.

    No mail is so dull. But it may have gone to the silent alone, so ask, too, whether anything was heard at all.
    """
    for begin in sorted({span.at for spans in signs.values() for span in spans}, reverse=True):
        late = [_lately(spans, begin, begin) for spans in signs.values()]
        if any(answered for _, answered, _ in late):
            return None
        expected = sum(usual for *_, usual in late)
        if expected >= LEAST_EXPECTED:
            why = (
                f"of {sum(mails for mails, *_ in late):,} mails that were looked at none was answered, where"
                f" {expected:,.0f} answers would be usual, and nothing else was heard: the tracker may be out of reach;"
                " no silence is believed until something is heard"
            )
            return Finding(begin, why)
    return None


def _finding(
    provider: str, own: Sequence[Signs], others: Sequence[Sequence[Signs]], held_since: datetime | None
) -> Finding | None:
    for begin in sorted({span.at for span in own}, reverse=True):
        if held_since is not None and begin < held_since:
            return Finding(held_since, "")
        before = held_since or begin
        mails, answered, usual = _lately(own, begin, before)
        heard = [_lately(spans, begin, before) for spans in others]
        usual_of_others = sum(one[2] for one in heard)
        if usual_of_others < LEAST_EXPECTED:
            continue
        expected = usual * min(1.0, sum(one[1] for one in heard) / usual_of_others)
        if expected >= LEAST_EXPECTED:
            why = (
                f"of {mails:,} mails to {provider} that were looked at {answered:,} were answered soon, where"
                f" {expected:,.0f} would be usual; its silence is not believed until more is heard"
            )
            return Finding(before, why) if answered < expected * LEAST_PART else None
    return None


def _lately(spans: Sequence[Signs], begin: datetime, before: datetime) -> tuple[int, int, float]:
    """Mails since `begin`, those of them that were answered, and how many of so many were until `before`."""
    late = [span for span in spans if span.at >= begin]
    old = [span for span in spans if span.at < before]
    mails = sum(span.mails for span in late)
    rate = sum(span.answered for span in old) / max(1, sum(span.mails for span in old))
    return mails, sum(span.answered for span in late), mails * rate
