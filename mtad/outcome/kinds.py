"""The outcomes of an attempt, with whose fault it is. Pure."""

from datetime import datetime
from enum import StrEnum

import msgspec


class Scope(StrEnum):
    """What a failure is about. Only `recipient` may ever count against a contact."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    SENDER = "sender"
    DESTINATION = "destination"
    PROTOCOL = "protocol"


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
