"""What pages ask of whoever knows people: the words of both sides. Pure."""

from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec

# How often a form may be used. A family signs up at once; who does it more often than once a minute is a robot.
BURST = 10
REFILL = 60.0  # seconds

# Of a /48 of IPv6 so many times as much: it has 65,536 households, and one owner.
WIDER = 10


class Act(StrEnum):
    """What a person can do on the preference page, to one stream or to all."""

    LEAVE = "leave"
    BREAK = "break"
    RESUME = "resume"  # the break is over, however old it is
    UNMEASURE = "unmeasure"
    UNDO = "undo"  # within a day, of leaving or a break
    RETURN = "return"  # later: a new double opt-in


class Confirmed(StrEnum):
    """What a confirmation came to."""

    DONE = "done"  # now, or before and it still holds
    USED = "used"  # it held once; the person has left since
    UNKNOWN = "unknown"  # expired, or never asked for


class Visitor(msgspec.Struct, frozen=True):
    """Who stands before a form, for the proof: the whole address."""

    ip: str | None
    agent: str
    page: str  # where the form stood, '' if the browser does not say


class Subscription(msgspec.Struct, frozen=True):
    """A stream, and how one person stands to it."""

    stream_id: int
    title: str
    subscribed: bool
    break_until: datetime | None  # None too when it is over
    measured: bool
    undo: bool  # what was done last can be taken back
    form: bool  # there is one by which to come back


class Person(msgspec.Struct, frozen=True):
    """Whose page it is."""

    address: str
    language: str
    stream_id: int  # of the mail in which the link stood
    streams: list[Subscription]

    def title(self) -> str:
        """What the stream of the mail is called; '' if the person has nothing to do with it any more."""
        return next((one.title for one in self.streams if one.stream_id == self.stream_id), "")


class Form(msgspec.Struct, frozen=True):
    """Where people sign up, in the words that they agree to."""

    name: str
    version: int  # of these words
    language: str
    title: str  # '' is one of ours, with the name of the stream
    stream: str  # what it is called
    text: str
    consent: str
    measuring: str  # '' is not asked


class Asking(msgspec.Struct, frozen=True):
    """What somebody is asked to confirm, in the words that its proof keeps."""

    language: str
    consent: str
    measuring: str  # '' is not agreed to
    came_to: Confirmed | None  # None: it was not answered yet


class Desk(Protocol):
    """Everything raises what a database raises that is away; nothing is half done then."""

    async def person(self, contact_id: int, program_id: int) -> Person | None: ...

    async def form(self, name: str) -> Form | None: ...

    async def allow(self, household: str, network: str) -> bool:
        """Count a use of a form from this household, which stands in this network; False: too often, over all workers.

        The limits are those above.
        """
        ...

    async def subscribe(self, name: str, version: int, address: str, visitor: Visitor, *, measuring: bool) -> bool:
        """Ask this address to confirm, as often as it may be asked; when it returns, that is durable.

        False when there is no such form, or it has other words by now than this version: nothing is
        kept then. ValueError when that is no address.
        """
        ...

    async def asking(self, job_id: int) -> Asking | None:
        """What this mail asks to confirm; None when it has expired, or never asked."""
        ...

    async def confirm(self, job_id: int, visitor: Visitor, *, event_id: UUID, at: datetime) -> Confirmed:
        """The mail of this job was answered; once it is done, doing it again changes nothing."""
        ...

    async def act(
        self,
        act: Act,
        contact_id: int,
        stream_id: int | None,
        visitor: Visitor,
        *,
        event_id: UUID,
        at: datetime,
        late: bool = False,
    ) -> bool:
        """On one stream, or on all; False when there was nothing to do.

        Leaving may be told again under its id, and changes nothing then; `late`, by the journal, it
        takes back nothing that was agreed to since.
        """
        ...
