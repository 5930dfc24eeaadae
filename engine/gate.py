"""May this mail go to this person now? Pure: facts in, verdict out.

The checks stand in one order, and the first that fails decides (engine/README.md).
Reasons that are final stand before delays wherever both could apply for long, so that
nothing waits only to be dropped.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from engine.facts import Defer, Facts, Reason, Send, Skip, Verdict
from engine.programs import Definition
from engine.rules import Policy
from engine.slots import earliest
from engine.zones import COUNTRY, Zone, zone_of

# How soon a job of a paused program is looked at again; a resume makes it due at once.
PAUSE_RECHECK = timedelta(minutes=1)

# A mail that is put off is not looked at again before this.
LEAST_DELAY = timedelta(minutes=1)

TRANSACTIONAL = 0

# What is due at the very end of a mail's life is too late.
_INSTANT = timedelta(microseconds=1)

_INACTIVE = {"cooling": "cooling", "trying": "in_reactivation", "resting": "resting"}


class Suspended(msgspec.Struct, frozen=True):
    """What is held back, and until when."""

    domains: Mapping[str, datetime] = {}
    programs: Mapping[int, datetime] = {}


NOTHING_SUSPENDED = Suspended()


class Context(msgspec.Struct, frozen=True):
    """What decides beside the facts, held in memory by version."""

    definition: Definition
    suppressed_domains: frozenset[str]  # 'example.com', not its subdomains
    suspended: Suspended = NOTHING_SUSPENDED
    policy: Policy = Policy()


def verdict(facts: Facts, context: Context, now: datetime) -> Verdict:
    """Send, skip for good or defer. Says the same for the same facts, context and moment.

    A deferral is to a minute from `now` at least.
    """
    for check, holds_transactional in _CHECKS:
        if facts.class_ == TRANSACTIONAL and not holds_transactional:
            continue
        if found := check(facts, context, now):
            return found
    return Send()


def _erased(facts: Facts, _context: Context, _now: datetime) -> Verdict | None:
    return Skip(Reason.ERASED) if facts.erased else None


def _suppressed(facts: Facts, _context: Context, _now: datetime) -> Verdict | None:
    return Skip(f"{Reason.SUPPRESSED}:{facts.suppressed_all}") if facts.suppressed_all else None


def _suppressed_domain(facts: Facts, context: Context, _now: datetime) -> Verdict | None:
    return Skip(Reason.SUPPRESSED_DOMAIN) if facts.domain in context.suppressed_domains else None


def _complained(facts: Facts, _context: Context, _now: datetime) -> Verdict | None:
    match facts.suppressed_marketing:
        case None:
            return None
        case "complained":
            return Skip(Reason.COMPLAINED)
        case why:  # an operator may suppress advertising by hand
            return Skip(f"{Reason.SUPPRESSED}:{why}")


def _permission(facts: Facts, _context: Context, _now: datetime) -> Verdict | None:
    match facts.subscription:
        case "subscribed":
            return None
        case "unconfirmed":
            return Skip(Reason.NOT_CONFIRMED)
        case "unsubscribed":
            return Skip(Reason.UNSUBSCRIBED)
        case _:
            return Skip(Reason.NOT_SUBSCRIBED)


def _on_break(facts: Facts, context: Context, now: datetime) -> Verdict | None:
    if facts.break_until is None or facts.break_until <= now:
        return None
    if context.definition.kind == "campaign" and facts.class_ == 2:
        return Skip(Reason.ON_BREAK)
    return _later(facts.break_until, Reason.ON_BREAK, now)


def _cancelled(facts: Facts, _context: Context, _now: datetime) -> Verdict | None:
    return Skip(Reason.CANCELLED) if facts.program_status == "cancelled" else None


def _paused(facts: Facts, _context: Context, now: datetime) -> Verdict | None:
    return Defer(now + PAUSE_RECHECK, Reason.PAUSED) if facts.program_status == "paused" else None


def _too_late(facts: Facts, _context: Context, now: datetime) -> Verdict | None:
    return Skip(Reason.TOO_LATE) if now >= facts.not_after else None


def _left(facts: Facts, context: Context, _now: datetime) -> Verdict | None:
    if facts.entry_ended:
        return Skip(f"{Reason.LEFT}:{facts.entry_why}")
    definition = context.definition
    # Who was Engaged before the job was made was meant to get it.
    became_engaged = facts.state == "engaged" and facts.since is not None and facts.since > facts.created
    if definition.kind == "campaign" and definition.on_engaged == "leave" and became_engaged:
        return Skip(f"{Reason.LEFT}:engaged")
    return None


def _inactive(facts: Facts, context: Context, _now: datetime) -> Verdict | None:
    if context.definition.kind == "reactivation":
        if facts.state == "trying":
            return None
        if facts.state not in _INACTIVE:
            return Skip(f"{Reason.LEFT}:came_back")
    if Reason.INACTIVE in context.definition.waives:
        return None
    phase = _INACTIVE.get(facts.state or "")
    return Skip(f"{Reason.INACTIVE}:{phase}") if phase else None


def _left_audience(facts: Facts, context: Context, _now: datetime) -> Verdict | None:
    definition = context.definition
    if definition.audience.holds(facts.attributes) or Reason.LEFT_AUDIENCE in definition.waives:
        return None
    return Skip(Reason.LEFT_AUDIENCE)


def _suspended(facts: Facts, context: Context, now: datetime) -> Verdict | None:
    held = context.suspended
    for kind, until in (("campaign", held.programs.get(facts.program_id)), ("domain", held.domains.get(facts.domain))):
        if until is not None and until > now:
            # Not longer than the mail lives, so that its end is recorded when it comes.
            return _later(min(until, facts.not_after), f"{Reason.SUSPENDED}:{kind}", now)
    return None


def _slot(facts: Facts, context: Context, now: datetime) -> Verdict | None:
    if context.policy.slots.hold_nothing:
        return None
    # The slot that an earlier attempt took is this mail's own and does not stand in its way.
    sends = [(when, on) for when, on in zip(facts.sent or (), facts.sent_on or (), strict=True) if when != facts.slot]
    return slot_for(
        context.policy, facts.stream_id, facts.zone, facts.attributes, sends, now=now, not_after=facts.not_after
    )


def slot_for(
    policy: Policy,
    stream: int,
    zone_name: str | None,
    attributes: Mapping[str, Any],
    sends: Sequence[tuple[datetime, int]],
    *,
    now: datetime,
    not_after: datetime,
) -> Skip | Defer | None:
    """What caps, quiet hours and sending days say, all at once, for each moves what the others say; None: send it.

    Of a contact with this zone and these attributes; `sends`: when other mail went to it, in
    order, and on which stream.
    """
    zone = zone_of(zone_name, attributes.get(COUNTRY), policy.zone)
    slot = earliest(
        now,
        policy.slots,
        zone.clock,
        sent=[when for when, on in sends if on == stream],
        sent_all=[when for when, _ in sends],
        latest=not_after - _INSTANT,
    )
    if slot is None:
        return Skip(Reason.NO_SLOT)
    if slot.skip:
        return Skip(slot.why)
    return _later(slot.at, slot.why, now, zone) if slot.why else None


def _later(until: datetime, reason: str, now: datetime, zone: Zone | None = None) -> Defer:
    return Defer(max(until, now + LEAST_DELAY), reason, zone)


# Each check, and whether it holds transactional mail too.
_CHECKS: tuple[tuple[Callable[[Facts, Context, datetime], Verdict | None], bool], ...] = (
    (_erased, True),
    (_suppressed, True),
    (_suppressed_domain, True),
    (_complained, False),
    (_permission, False),
    (_on_break, False),
    (_cancelled, True),
    (_paused, True),
    (_too_late, True),
    (_left, False),
    (_inactive, False),
    (_left_audience, False),
    (_suspended, True),
    (_slot, False),
)

_SENTENCES = {
    Reason.ERASED: "This person was erased; nothing is kept that could be mailed.",
    Reason.SUPPRESSED: "The address is suppressed.",
    Reason.SUPPRESSED_DOMAIN: "Every address of this domain is suppressed.",
    Reason.COMPLAINED: "This person reported our mail as spam, so gets no advertising any more.",
    Reason.NOT_SUBSCRIBED: "There is no permission to mail this person on this stream.",
    Reason.NOT_CONFIRMED: "The subscription was never confirmed.",
    Reason.UNSUBSCRIBED: "This person unsubscribed from the stream.",
    Reason.ON_BREAK: "This person asked for a break that is not over.",
    Reason.CANCELLED: "The program was cancelled.",
    Reason.PAUSED: "The program is paused; the mail waits.",
    Reason.TOO_LATE: "The time up to which this mail made sense had passed.",
    Reason.LEFT: "This person had left the program.",
    Reason.INACTIVE: "This person is Inactive on the stream.",
    Reason.LEFT_AUDIENCE: "This person's attributes no longer match the program's audience.",
    Reason.HOLDOUT: "This person is one of those whom the program leaves out, to compare with.",
    Reason.REDIRECTED: "This person is Inactive, and another program took over.",
    Reason.CAP: "This person has had as many mails as the cap allows.",
    Reason.QUIET_HOURS: "It is in the quiet hours of this person's day; the mail waits for their end.",
    Reason.SENDING_DAY: "The stream sends no mail on this day of the week; the mail waits for the next that it does.",
    Reason.NO_SLOT: "Caps, quiet hours and sending days left no time for this mail within its life.",
    Reason.SUSPENDED: "Mail like this is suspended for now; it waits.",
    Reason.PURGED: "The mail was taken out of the queue by hand.",
    Reason.MISSING_VALUE: "The message needs a value that this person does not have.",
    Reason.CONTENT: "The message could not be made for this person.",
}

_DETAILED = {
    "suppressed:hard_bounce": "The address is suppressed: its server said that it does not exist.",
    "suppressed:mailbox_full": "The address is suppressed for a while: its mailbox was full for days.",
    "suppressed:manual": "The address was suppressed by hand.",
    "suppressed:erased": "The address is suppressed: whoever had it was erased.",
    "suspended:campaign": "The campaign is suspended for now; the mail waits.",
    "suspended:domain": "Mail to this domain is suspended for now; it waits.",
    "left:engaged": "This person had become Engaged and left the program.",
    "left:clicked": "This person had clicked in the program's mail and left it.",
    "left:opened": "This person had opened the program's mail and left it.",
    "left:inactive": "This person had become Inactive and left the program.",
    "left:came_back": "This person had come back by themselves and left the program.",
    "left:silent": "This person's way through the program had ended without a sign.",
    "left:done": "This person's way through the program had ended.",
    "left:unsubscribed": "This person had unsubscribed and left the program.",
    "left:complained": "This person had complained and left the program.",
    "left:bounced": "This person's address had bounced for good, which ended the program for them.",
    "left:suppressed": "This person's address had been suppressed, which ended the program for them.",
    "left:cancelled": "The program had been cancelled.",
    "inactive:cooling": "This person is Inactive and cooling down: nothing is sent until the cool-down is over.",
    "inactive:in_reactivation": "This person is Inactive and in a reactivation program, which alone may mail them.",
    "inactive:resting": "This person stayed silent through every reactivation and is left alone.",
}


def sentence(reason: str) -> str:
    """One sentence for people, for every Reason, with or without its detail; ValueError for any other."""
    if exact := _DETAILED.get(reason):
        return exact
    kind, _, detail = reason.partition(":")
    plain = _SENTENCES[Reason(kind)]
    return f"{plain.removesuffix('.')}: {detail}." if detail else plain
