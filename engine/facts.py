"""What a verdict is made from, and what it may be. Pure.

`Facts` is one claimed job with everything that decides about it: the columns of
the query `claim` (sql/queries/queue.sql) in their order. The same struct serves
the dry run over an audience that has no jobs yet (`job_id` is 0 there).
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from engine.zones import Zone


class Facts(msgspec.Struct, frozen=True, gc=False):
    """One mail to one person, as the database saw it at one moment."""

    job_id: int
    contact_id: int
    stream_id: int
    program_id: int
    version: int  # of the program, which the entry keeps
    message_id: int
    entry_id: int | None
    site_id: int
    class_: int  # 0 transactional, 1 triggered, 2 bulk
    attempt: int  # attempts made so far
    doubts: int  # how many of them ended without an answer to the final dot
    created: datetime
    not_after: datetime
    node: str  # the send node of the program
    # contact
    address: str  # as given
    address_key: str
    domain: str
    locale: str | None
    zone: str | None
    attributes: dict[str, Any]
    erased: bool
    # permission; None where there is no row
    subscription: str | None  # subscribed, unconfirmed, unsubscribed
    break_until: datetime | None
    tracking: str | None  # the contact's own mode; None is the stream's
    suppressed_all: str | None  # the reason of an open suppression of scope all
    suppressed_marketing: str | None
    # engagement; state None is New
    state: str | None
    since: datetime | None
    cool_until: datetime | None
    cycle: int
    # entry
    entry_ended: bool
    entry_why: str | None
    # what begin compares
    gate_version: int
    program_fence: int
    program_status: str
    stream_version: int
    epoch: int
    # of a mail in doubt: when a person first opened it or clicked in it, so it arrived
    proven: datetime | None = None
    # when mail that counts for caps was sent to the contact, in order, and on which stream each
    sent: list[datetime] | None = None
    sent_on: list[int] | None = None
    slot: datetime | None = None  # which of these is this mail's own, taken by an earlier attempt


class Reason(StrEnum):
    """Why a mail is not sent. A closed list; some carry a detail after a colon (`missing_value:name`)."""

    ERASED = "erased"
    SUPPRESSED = "suppressed"  # :hard_bounce, :mailbox_full, :manual, :erased
    SUPPRESSED_DOMAIN = "suppressed_domain"
    COMPLAINED = "complained"
    NOT_SUBSCRIBED = "not_subscribed"
    NOT_CONFIRMED = "not_confirmed"
    UNSUBSCRIBED = "unsubscribed"
    ON_BREAK = "contact_on_break"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    TOO_LATE = "too_late"
    LEFT = "left"  # :engaged, :clicked, :opened, :inactive, :came_back, :silent, …
    INACTIVE = "inactive"  # :cooling, :in_reactivation, :resting
    LEFT_AUDIENCE = "left_audience"
    HOLDOUT = "holdout"  # at the start only: such people have no job that the gate could see
    REDIRECTED = "redirected"  # :program
    CAP = "cap"  # :name
    QUIET_HOURS = "quiet_hours"
    SENDING_DAY = "sending_day"
    NO_SLOT = "no_slot"
    SUSPENDED = "suspended"  # :campaign, :domain
    PURGED = "purged"  # by an operator, from the queue; the gate never says so
    MISSING_VALUE = "missing_value"  # :name
    CONTENT = "content"  # :error


class Send(msgspec.Struct, frozen=True):
    """Mail it."""


class Skip(msgspec.Struct, frozen=True):
    """Not this one, for good. `reason` is a Reason, perhaps with ':' and a detail."""

    reason: str


class Defer(msgspec.Struct, frozen=True):
    """Not before `until`; `zone` where that is a time on somebody's wall."""

    until: datetime
    reason: str
    zone: Zone | None = None


Verdict = Send | Skip | Defer
