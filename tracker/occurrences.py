"""What happened beside the mail, as servers tell it. SQL: sql/queries/intake.sql.

Each is written once, and what it means for people is folded in the same transaction: durable
before it is acknowledged, and counted once, whoever asks how often.
"""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.sqlfiles import queries
from tracker.intake import Refused, Told

SQL = queries("intake")


class Occurrence(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did, without a mail. A page view is called page, its address `url`.

    Or a report of what came back; `job_id` is the mail that it is about, where that is known.
    """

    event_id: UUID
    contact_id: int
    event: str
    at: datetime
    properties: Mapping[str, Any]
    job_id: int | None = None


class Offer(Protocol):
    """Offers occurrences to every stream of their contacts, in the transaction that writes them."""

    def __call__(self, conn: Connection, occurrences: Sequence[Occurrence], /) -> Awaitable[object]: ...


async def offered_to_nobody(_conn: Connection, _occurrences: Sequence[Occurrence]) -> None:
    """Where there is no engine."""


class Taken(msgspec.Struct, frozen=True):
    """What became of a batch."""

    accepted: int
    repeated: int
    errors: list[Refused]


async def take_in(pool: Pool, source: str, told: Sequence[Told], *, offer: Offer) -> Taken:
    """Write items of a source down, once each, with all that follows; committed when this returns.

    Items of people whom nobody knows are refused one by one, and may be sent again later.
    """
    return await in_transaction(pool, lambda conn: _take_in(conn, source, told, offer))


async def _take_in(conn: Connection, source: str, told: Sequence[Told], offer: Offer) -> Taken:
    refused: list[Refused] = []
    owners = await _owners(conn, told, refused)
    types = (
        {row[0]: row[1] for row in await conn.fetch(SQL["attribute_types"])} if any(t.attributes for t in told) else {}
    )
    good: list[Told] = []
    for one in told:
        if one.index not in owners:
            continue
        if wrong := _wrong_attribute(one, types):
            refused.append(Refused(one.index, one.key, wrong))
        else:
            good.append(one)
    # In order and before all else that is locked: what is offered, and new attributes, change who may be mailed.
    await conn.fetch(SQL["lock_gates_of"], sorted({owners[one.index] for one in good}))
    # Found before the lock, and maybe erased while we waited for it: nothing may be tied to what is left of them.
    gone = {row[0] for row in await conn.fetch(SQL["erased_of"], sorted({owners[one.index] for one in good}))}
    refused += [_unknown(one) for one in good if owners[one.index] in gone]
    good = [one for one in good if owners[one.index] not in gone]
    once = {one.key: one for one in reversed(good)}
    rows = await conn.fetch(SQL["take_keys"], source, list(once), [one.event_id for one in once.values()])
    fresh_ids = {row[0] for row in rows}
    fresh = [one for one in good if one.event_id in fresh_ids]
    await _add(conn, source, [one for one in fresh if one.event], owners, offer)
    await _identify(conn, [one for one in fresh if not one.event], owners)
    refused.sort(key=lambda one: one.index)
    return Taken(len(fresh), len(good) - len(fresh), refused)


async def _owners(conn: Connection, told: Sequence[Told], refused: list[Refused]) -> dict[int, int]:
    """The contact of each item, by index; whose identities are nobody's, or two people's, is refused."""
    asked = [(one, kind, key) for one in told for kind, key in one.identities]
    rows = await conn.fetch(SQL["contacts_of"], [kind for _, kind, _ in asked], [key for _, _, key in asked])
    mails = [(one, one.mail) for one in told if one.mail]
    if mails:
        rows += await conn.fetch(SQL["readers_of"], [job for _, (job, _) in mails], [made for _, (_, made) in mails])
    found: dict[int, set[int]] = {}
    for one, row in zip([*(one for one, _, _ in asked), *(one for one, _ in mails)], rows, strict=True):
        found.setdefault(one.index, set()).update({row[0]} - {None})
    owners: dict[int, int] = {}
    for one in told:
        match sorted(found[one.index]):
            case [contact]:
                owners[one.index] = contact
            case []:
                refused.append(_unknown(one))
            case _:
                refused.append(Refused(one.index, one.key, "email, external_id and message_id are of two people"))
    return owners


def _unknown(one: Told) -> Refused:
    names = " and ".join(f"{kind} {key!r}" for kind, key in one.identities) or "message_id"
    return Refused(one.index, one.key, f"{names}: nobody is known by that")


async def _add(conn: Connection, source: str, told: Sequence[Told], owners: Mapping[int, int], offer: Offer) -> None:
    if not told:
        return
    await conn.execute(
        SQL["add_occurrences"],
        [one.event_id for one in told],
        [one.event for one in told],
        [one.at for one in told],
        [owners[one.index] for one in told],
        [
            {"source": source, "key": one.key, "properties": one.properties}
            | ({"job": one.mail[0]} if one.mail else {})
            for one in told
        ],
    )
    await offer(
        conn,
        [
            Occurrence(
                event_id=one.event_id,
                contact_id=owners[one.index],
                event=one.event,
                at=one.at,
                properties=one.properties,
                job_id=one.mail[0] if one.mail else None,
            )
            for one in told
        ],
    )


async def _identify(conn: Connection, told: Sequence[Told], owners: Mapping[int, int]) -> None:
    """Tie external ids to people, and set attributes; of two items on one person the later one has the last word."""
    tied = [(one, key) for one in told for kind, key in one.identities if kind == "external"]
    if tied:
        await conn.execute(SQL["tie"], [key for _, key in tied], [owners[one.index] for one, _ in tied])
    attributes: dict[int, dict[str, Any]] = {}
    for one in told:
        if one.attributes:
            attributes.setdefault(owners[one.index], {}).update(one.attributes)
    if attributes:
        contacts = sorted(attributes)
        await conn.execute(SQL["set_attributes"], contacts, [attributes[contact] for contact in contacts])


def _wrong_attribute(one: Told, types: Mapping[str, str]) -> str:
    """What is wrong with the attributes of an item; '' for nothing. Null takes one away."""
    for name, value in one.attributes.items():
        if name not in types:
            return f"attributes.{name}: nobody has that; an import makes attributes known, with their type"
        if value is not None and not _fits(value, types[name]):
            return f"attributes.{name}: is a {types[name]}, not {value!r}"
    return ""


def _fits(value: str | float | bool, type_: str) -> bool:
    match type_:
        case "bool":
            return isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "date":
            if not isinstance(value, str):
                return False
            try:
                datetime.fromisoformat(value)
            except ValueError:
                return False
            return True
        case _:
            return isinstance(value, str)
