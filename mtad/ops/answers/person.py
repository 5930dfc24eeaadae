"""Everything about one contact, as the rows say it, at one moment."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.outlook import Standing, coming
from engine.policy import StreamDefinition
from mtad.base.address import parse_address
from mtad.base.db import Connection
from mtad.base.errors import InputError
from mtad.base.sqlfiles import queries
from mtad.ops.answers import engagement

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
    round_from: datetime | None
    window_until: datetime | None
    veiled: bool
    unclear: int
    cycle: int
    told: datetime  # time of the last fact or timer in it
    version: int  # of the stream's rules


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
    version: int | None  # of the stream's rules, when it was logged


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
    explained: dict[str, list[str]]  # by stream: its rules, the facts, what led to the state, what comes next
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


async def contact_by_address(conn: Connection, address: str) -> Contact:
    """Whoever has this address in any spelling of the same key; InputError: nobody has."""
    try:
        parsed = parse_address(address)
    except ValueError as error:
        raise InputError(f"address {address!r}: {error}") from None
    row = await conn.fetchrow(SQL["contact_by_key"], parsed.key)
    if row is None:
        raise InputError(f"no contact has the address {parsed.key}")
    return Contact(*row)


async def person_by_address(conn: Connection, address: str) -> Person:
    """`contact_by_address` with all that is known, in one transaction."""
    contact = await contact_by_address(conn, address)
    mails = [Mail(*found) for found in await conn.fetch(SQL["mails_of_contact"], contact.id)]
    events = [Event(*found) for found in await conn.fetch(SQL["events_of_contact"], contact.id)]
    transitions = [Transition(*found) for found in await conn.fetch(SQL["transitions_of_contact"], contact.id)]
    streams = [OnStream(*found) for found in await conn.fetch(SQL["streams_of_contact"], contact.id)]
    by_name = {on.stream: on for on in streams}
    keys = [contact.key, f"@{contact.key.rpartition('@')[2]}"]
    return Person(
        contact=contact,
        identities=[Identity(*found) for found in await conn.fetch(SQL["identities_of_contact"], contact.id)],
        suppressions=[Suppression(*found) for found in await conn.fetch(SQL["suppressions_of_keys"], keys)],
        streams=streams,
        explained={
            stream: _explained(
                by_name[stream], StreamDefinition.from_json(definition), running, now, last_move(transitions, stream)
            )
            for stream, definition, running, now in await conn.fetch(SQL["rules_of_contact"], contact.id)
        },
        entries=[Entry(*found) for found in await conn.fetch(SQL["entries_of_contact"], contact.id)],
        history=sorted([*mails, *events, *transitions], key=_when),
    )


async def show(conn: Connection, address: str) -> Person:
    """`person_by_address` of one moment. `conn` must not be in a transaction."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return await person_by_address(conn, address)


def _explained(
    on: OnStream, definition: StreamDefinition, reactivations: list[str], now: datetime, moved: Transition | None
) -> list[str]:
    """The rules, the facts, why the state is what it is, and what comes next."""
    if on.since is None or on.round_from is None:
        return []
    policy = definition.policy
    row = Standing(
        on.state, on.since, on.round_from, on.score, on.last_sign, on.first_sent, on.cycle, on.cool_until,
        on.window_until, on.veiled, on.ignored, on.unclear, on.told,
    )  # fmt: skip
    measured = (on.tracking or definition.tracking) == "full"
    said = [engagement.rules(on.stream, on.version, policy), engagement.standing(row, policy, measured=measured)]
    if moved:
        said.append(engagement.became(moved))
    return [*said, *engagement.outlook(row, coming(row, policy), policy, reactivations, now)]


def last_move(transitions: Sequence[Transition], stream: str) -> Transition | None:
    """The latest transition on the stream that stands."""
    void = {t.takes_back for t in transitions}
    found = [t for t in transitions if t.stream == stream and t.id not in void and t.takes_back is None]
    return found[-1] if found else None


def _when(item: Mail | Event | Transition) -> tuple[bool, datetime, bool]:
    """A mail that is queued comes after all that happened; a transition after the fact that led to it."""
    if isinstance(item, Mail):
        return (True, item.due or item.created, False) if item.at is None else (False, item.at, False)
    return False, item.at, isinstance(item, Transition)
