"""What came of one attempt to hand over one message. Pure; the reader of it is mtad.outcome."""

from datetime import datetime
from enum import StrEnum

import msgspec


class Stage(StrEnum):
    """Where in the dialogue something happened, in the order of RFC 5321."""

    CONNECT = "connect"
    BANNER = "banner"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    TLS = "TLS handshake"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "message body"
    DOT = "final dot"
    RSET = "RSET"
    QUIT = "QUIT"


class Accepted(msgspec.Struct, frozen=True):
    """The receiving server took responsibility (2xx after the final dot)."""

    text: str  # the reply in one line, codes first
    dot_at: datetime  # the final dot was written
    at: datetime  # the reply was read
    host: str  # name and address of the server


class Refused(msgspec.Struct, frozen=True):
    """A 4xx or 5xx; the session may still be good."""

    stage: Stage
    code: int
    enhanced: str  # "5.1.1", or "" where the server gave none
    text: str
    host: str


class Lost(msgspec.Struct, frozen=True):
    """No usable answer: closed, timed out, or not SMTP. At Stage.DOT nobody knows: in doubt.

    `why` says what happened and what we waited for. Where the last bytes of the message
    had gone out together with MAIL and RCPT, that may be the answer to one of these.
    """

    stage: Stage
    why: str
    host: str


class TooLate(msgspec.Struct, frozen=True):
    """The server took nothing of the message, and did not refuse it: begin again, it was no attempt.

    DATA could not be written within the validity of begin; or a session that had
    served before turned out to be closed by the server, or failed at RSET, which is
    about the message before.
    """

    host: str


Result = Accepted | Refused | Lost | TooLate
