"""The outcomes of an attempt, with whose fault it is. Pure."""

from datetime import datetime
from enum import StrEnum

import msgspec


class Scope(StrEnum):
    """What a failure is about. Only `recipient`, and `mailbox` over days, may ever count against a contact."""

    RECIPIENT = "recipient"
    MAILBOX = "mailbox"  # the recipient's, full or busy: it comes back
    MESSAGE = "message"  # its content
    SENDER = "sender"  # our domain, addresses and signatures
    SOURCE = "source"  # our IP address and its names
    DESTINATION = "destination"  # their hosts, and the way there
    PROTOCOL = "protocol"
    POLICY = "policy"  # their rules on rates, and the unnamed rest


class Action(StrEnum):
    """What follows: for this mail (suppress and bounce end it, the others bring it back), and for its lane."""

    SUPPRESS = "suppress"  # the contact gets nothing more
    BOUNCE = "bounce"
    RETRY = "retry"
    SLOW = "slow"  # tried again; where it recurs the lane is slowed
    SUSPEND = "suspend"  # every other mail of the lane would get the same: it is closed, and this one tried again


class Delivered(msgspec.Struct, frozen=True):
    """The receiving server answered 250 to the final dot."""

    reply: str
    dot_at: datetime
    at: datetime


class Deferred(msgspec.Struct, frozen=True):
    """Try again; `after` is what the server asked for, in seconds, within bounds."""

    scope: Scope
    category: str
    reply: str
    after: float | None = None


class Bounced(msgspec.Struct, frozen=True):
    """For good. `suppress` only for a permanent failure of scope recipient."""

    scope: Scope
    category: str
    reply: str
    suppress: bool = False


class InDoubt(msgspec.Struct, frozen=True):
    """The final dot was written and no answer came: it may have arrived."""

    reply: str


Outcome = Delivered | Deferred | Bounced | InDoubt
