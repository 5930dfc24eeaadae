"""Everything about one contact, as the rows say it, at one moment."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mtad.base.address import parse_address
from mtad.base.db import Connection
from mtad.base.errors import InputError
from mtad.base.sqlfiles import queries

SQL = queries("answers")


class Contact(msgspec.Struct, frozen=True):
    """The person's own row."""

    id: int
    address: str
    key: str
    created: datetime
    locale: str | None
    zone: str | None
    attributes: dict[str, Any]
    erased: bool
    merged_into: int | None


class Identity(msgspec.Struct, frozen=True):
    """A name under which the contact is found: email, external, cookie, phone."""

    kind: str
    key: str


class Suppression(msgspec.Struct, frozen=True):
    """Of the address, or of its domain (`key` is '@' and the domain). `until` None: for good."""

    key: str
    scope: str
    reason: str
    source: str
    created: datetime
    until: datetime | None
    released: datetime | None
    open: bool


class OnStream(msgspec.Struct, frozen=True):
    """Permission (`status` None: there is none) and engagement on one stream."""

    stream: str
    status: str | None
    basis: str | None
    source: str | None
    consent_at: datetime | None
    tracking: str | None  # None: the stream's
    break_until: datetime | None
    changed: datetime | None
    changed_by: str | None
    state: str
    score: int
    since: datetime | None
    last_sign: datetime | None
    first_sent: datetime | None
    ignored: int
    cool_until: datetime | None


class Mail(msgspec.Struct, frozen=True, tag="mail"):
    """One mail: how it ended, or that it is `waiting` or `begun`. `at` None: it is queued until `due`."""

    job: int
    program: str
    stream: str
    message: str
    fate: str
    reason: str  # of a skip, the category of a bounce; of a queued one: why it waits
    reply: str | None
    attempts: int
    doubts: int
    created: datetime
    begun: datetime | None
    at: datetime | None
    due: datetime | None
    entry: int | None


class Event(msgspec.Struct, frozen=True, tag="event"):
    """A hit or another fact; `class_` None: not judged yet. Without a link it is not from a mail."""

    id: UUID
    kind: str
    at: datetime
    class_: str | None = msgspec.field(name="class")
    job: int | None
    program: str | None
    message: str | None
    link: int | None  # its position in the message; 0 is the pixel
    url: str | None
    stream: str | None
    data: dict[str, Any]


class Transition(msgspec.Struct, frozen=True, tag="transition"):
    """A change of state; `fact` says what led to it, as in 'click on link 3 of nudge-2, job 17'."""

    id: int
    stream: str
    from_state: str
    to_state: str
    why: str
    fact: str
    at: datetime
    takes_back: int | None


class Entry(msgspec.Struct, frozen=True):
    """One way through one program. `due` None while it runs: its mail is queued."""

    id: int
    program: str
    stream: str
    node: str
    due: datetime | None
    entered: datetime
    ended: datetime | None
    why: str | None


class Person(msgspec.Struct, frozen=True):
    """One contact and all that happened, `history` in order of time, queued mails at its end."""

    contact: Contact
    identities: list[Identity]
    suppressions: list[Suppression]
    streams: list[OnStream]
    entries: list[Entry]
    history: list[Mail | Event | Transition]

    @property
    def mails(self) -> list[Mail]:
        return [item for item in self.history if isinstance(item, Mail)]

    @property
    def events(self) -> list[Event]:
        return [item for item in self.history if isinstance(item, Event)]

    @property
    def transitions(self) -> list[Transition]:
        return [item for item in self.history if isinstance(item, Transition)]


async def person_by_address(conn: Connection, address: str) -> Person:
    """Whoever has this address in any spelling of the same key; InputError: nobody has. In one transaction."""
    try:
        parsed = parse_address(address)
    except ValueError as error:
        raise InputError(f"address {address!r}: {error}") from None
    row = await conn.fetchrow(SQL["contact_by_key"], parsed.key)
    if row is None:
        raise InputError(f"no contact has the address {parsed.key}")
    contact = Contact(*row)
    mails = [Mail(*found) for found in await conn.fetch(SQL["mails_of_contact"], contact.id)]
    events = [Event(*found) for found in await conn.fetch(SQL["events_of_contact"], contact.id)]
    transitions = [Transition(*found) for found in await conn.fetch(SQL["transitions_of_contact"], contact.id)]
    keys = [contact.key, f"@{parsed.domain}"]
    return Person(
        contact=contact,
        identities=[Identity(*found) for found in await conn.fetch(SQL["identities_of_contact"], contact.id)],
        suppressions=[Suppression(*found) for found in await conn.fetch(SQL["suppressions_of_keys"], keys)],
        streams=[OnStream(*found) for found in await conn.fetch(SQL["streams_of_contact"], contact.id)],
        entries=[Entry(*found) for found in await conn.fetch(SQL["entries_of_contact"], contact.id)],
        history=sorted([*mails, *events, *transitions], key=_when),
    )


async def show(conn: Connection, address: str) -> Person:
    """`person_by_address` of one moment. `conn` must not be in a transaction."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return await person_by_address(conn, address)


def _when(item: Mail | Event | Transition) -> tuple[bool, datetime, bool]:
    """A mail that is queued comes after all that happened; a transition after the fact that led to it."""
    if isinstance(item, Mail):
        return (True, item.due or item.created, False) if item.at is None else (False, item.at, False)
    return False, item.at, isinstance(item, Transition)
