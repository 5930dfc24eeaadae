"""What it means that a tracking address answers, or does not. Pure.

An address that answered once is believed when it is silent: from its last answer on nobody is
heard, so no silence of people is concluded, until it answers again. Two failures or more make
that time one in which nobody listened; one alone is a blip.

One that never answered the probe may be out of reach for everybody, or for this host alone,
which cannot see its own public address (hairpin NAT). So until any recipient came through,
nothing proves that we would hear people, and their silence waits as well; afterwards the
probe is not asked about silence, only complained of.
"""

from datetime import datetime

import msgspec

# So many failures in a row are no blip.
OUTAGE = 2


class Reach(msgspec.Struct, frozen=True):
    """What the probe of a stream's address found last."""

    address: str
    good: datetime  # its last answer; where there was none, when it was first asked
    answered: bool  # whether there ever was one
    asked: datetime
    failures: int = 0  # since `good`
    holds: bool = False  # silence is concluded up to `good` only
    why: str = ""  # what came of the last failure


class Span(msgspec.Struct, frozen=True):
    """From when to when an address was out of reach."""

    since: datetime
    until: datetime


def after(before: Reach | None, address: str, at: datetime, wrong: str, *, noticed: bool) -> tuple[Reach, Span | None]:
    """What is known after the probe was answered (`wrong` is '') or was not, and the span that is over by it.

    `noticed`: whether a recipient has come through although the address never answered. A stream
    that says another address begins anew, and what its mail was out of reach by the old one is over.
    """
    if before is None or before.address != address:
        fresh = Reach(address, at, not wrong, at, bool(wrong), bool(wrong) and not noticed, wrong)
        return fresh, _over(before, at)
    if not wrong:
        return Reach(address, at, answered=True, asked=at), _over(before, at)
    holds = before.answered or not noticed
    return Reach(address, before.good, before.answered, at, before.failures + 1, holds, wrong), None


def _over(before: Reach | None, at: datetime) -> Span | None:
    # A clock that was put back, or another host's, must not make a span that ends before it begins.
    if before is None or not before.holds or before.failures < OUTAGE or before.good >= at:
        return None
    return Span(before.good, at)


def trouble(reach: Reach) -> str:
    """What is wrong with an address, in a sentence; '' where nothing is, or it may be a blip."""
    if reach.failures < OUTAGE:
        return ""
    if reach.answered:
        return f"{reach.address} does not answer as our tracker: {reach.why}; no silence is believed until it does"
    if reach.holds:
        return (
            f"{reach.address} has never answered as our tracker: {reach.why};"
            " no silence is believed until it does, or a recipient comes through"
        )
    return (
        f"{reach.address} has never answered this host as our tracker: {reach.why};"
        " recipients do come through, but an outage of it would go unnoticed"
    )


MEND = (
    "mend its DNS, proxy, firewall or certificate; where this host cannot see its own public address,"
    ' say probe = "off" in [tracker]'
)
