"""What servers tell of people: the items of POST /events. Bytes in, items and errors out; pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec

from mtad.base.address import parse_address
from mtad.base.ids import read_message_id

MOST_ITEMS = 1000
MOST_PROPERTIES = 4096  # octets of JSON; likewise of attributes
MOST_NESTED = 16  # lists and objects in each other: whoever reads them again recurses

# A replay goes back so far, and keys of events are remembered as long.
OLDEST = timedelta(days=30)
MOST_AHEAD = timedelta(minutes=5)

# What the tracker itself, or a person on our pages, is the only one to say.
OURS = frozenset({
    "open", "click", "page", "unsubscribe", "unsubscribe_page", "subscribe", "confirm", "undo", "break",
    "end_break", "complaint", "withdraw", "unmeasured", "release", "bounce",
})  # fmt: skip

# What came back to us by mail and another system has read. They say nothing of what people want.
REPORTS = frozenset({"bounced", "complained", "out_of_office"})

# Whoever is away for longer has left.
LONGEST_ABSENCE = timedelta(days=366)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

# U+0000 as JSON writes it; a backslash before it may be one of a pair.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

IdentityKind = Literal["email", "external"]

MailOf = tuple[int, datetime]  # a job, and when it was made


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing told, as it is written. Who: `email`, or `external_id`, or, to tie the two, both.

    A report may name the mail instead, or beside them.
    """

    id: str
    """Given by the sender: the same one again, within 30 days, changes nothing."""
    type: Literal["track", "identify"] = "track"
    event: str = ""
    email: str = ""
    external_id: str = ""
    message_id: str = ""
    """Of a report: the Message-ID of the mail that it is about."""
    at: datetime | None = None
    properties: dict[str, Any] = msgspec.field(default_factory=dict)
    attributes: dict[str, str | float | bool | None] = msgspec.field(default_factory=dict)


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An item that can be taken in."""

    index: int
    key: str
    event_id: UUID
    at: datetime
    event: str  # '': an identify
    identities: tuple[tuple[IdentityKind, str], ...]
    mail: MailOf | None
    properties: dict[str, Any]
    attributes: dict[str, str | float | bool | None]


class Refused(msgspec.Struct, frozen=True):
    """An item that cannot, and why, in one line."""

    index: int
    id: str
    error: str


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


def read_items(body: bytes, now: datetime, ids: Sequence[UUID]) -> tuple[list[Told], list[Refused]]:
    """`{"events": [...]}`, or one item alone; `ids`: one for each of them. ValueError: the body as a whole is wrong."""
    try:
        keys = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        items = msgspec.json.decode(body, type=_Batch).events if "events" in keys else [msgspec.Raw(body)]
    except RecursionError:
        raise ValueError("the body: is nested too deeply") from None
    except ValueError as error:  # msgspec's are of this kind, and those of what is no UTF-8
        raise ValueError(f"the body: {_lowered(error)}") from None
    if len(items) > MOST_ITEMS:
        raise ValueError(f"events: at most {MOST_ITEMS:,} at once, are {len(items):,}")
    told: list[Told] = []
    refused: list[Refused] = []
    for index, (item, event_id) in enumerate(zip(items, ids, strict=False)):
        try:
            told.append(_read(index, item, event_id, now))
        except ValueError as error:
            refused.append(Refused(index, _id_of(item), _lowered(error)))
    return told, refused


def _read(index: int, raw: msgspec.Raw, event_id: UUID, now: datetime) -> Told:
    try:
        item = msgspec.json.decode(raw, type=Item)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not item.id or len(item.id) > 200 or not item.id.isprintable():
        raise ValueError("id: 1 to 200 printable characters")
    identities: list[tuple[IdentityKind, str]] = []
    if item.email:
        try:
            identities.append(("email", parse_address(item.email).key))
        except ValueError as error:
            raise ValueError(f"email: {item.email!r}: {error}") from None
    if item.external_id:
        if len(item.external_id) > 200 or not item.external_id.isprintable():
            raise ValueError("external_id: at most 200 printable characters")
        identities.append(("external", item.external_id))
    mail = _mail(item) if item.message_id else None
    if not identities and not mail:
        raise ValueError("email or external_id is needed")
    at = now if item.at is None else item.at
    if at.tzinfo is None:
        raise ValueError(f"at: {at.isoformat()} has no zone; write 2026-12-01T09:00:00Z")
    if not now - OLDEST <= at <= now + MOST_AHEAD:
        raise ValueError(f"at: {at.isoformat()} is not within the last {OLDEST.days} days")
    if item.type == "track":
        _check_track(item, now)
    elif item.event or item.properties:
        raise ValueError("identify has attributes, and no event and no properties")
    _check_values("properties", item.properties)
    _check_values("attributes", item.attributes)
    return Told(
        index=index,
        key=item.id,
        event_id=event_id,
        at=min(at, now),
        event=item.event,
        identities=tuple(identities),
        mail=mail,
        properties=item.properties,
        attributes=item.attributes,
    )


def _mail(item: Item) -> MailOf:
    if item.event not in REPORTS:
        raise ValueError(f"message_id: belongs to {', '.join(sorted(REPORTS))}")
    if not (mail := read_message_id(item.message_id)):
        raise ValueError(f"message_id: {item.message_id[:200]!r} is none of ours")
    return mail


def _check_track(item: Item, now: datetime) -> None:
    if not _NAME.fullmatch(item.event):
        raise ValueError(f"event: lower case letters, digits, '.', '_' and '-', at most 64, is {item.event!r}")
    if item.event in OURS:
        raise ValueError(f"event: {item.event!r} is for the tracker to say")
    if item.attributes:
        raise ValueError("attributes belong to identify; what belongs to the event is called properties")
    if item.event == "out_of_office" and "until" in item.properties:
        _check_absence(item.properties["until"], now)


def _check_absence(until: object, now: datetime) -> None:
    """That a replay can read it, years later."""
    try:
        at = msgspec.convert(until, datetime)
    except msgspec.ValidationError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"properties.until: {until!r} is no time with a zone; write 2026-12-01T09:00:00Z")
    if at > now + LONGEST_ABSENCE:
        raise ValueError(f"properties.until: {until} is more than {LONGEST_ABSENCE.days} days ahead")


def _check_values(name: str, values: Mapping[str, object]) -> None:
    """That the database can keep them: one that it refused would hold up the whole batch, for ever."""
    if _is_nested(values, MOST_NESTED):
        raise ValueError(f"{name}: are nested deeper than {MOST_NESTED}")
    text = msgspec.json.encode(values)
    if len(text) > MOST_PROPERTIES:
        raise ValueError(f"{name}: at most {MOST_PROPERTIES} octets of JSON")
    if _NUL.search(text):
        raise ValueError(f"{name}: U+0000 stands in them, which no text may hold")


def _is_nested(value: object, deeper: int) -> bool:
    """Whether lists and objects stand in each other deeper than that."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return not deeper or any(_is_nested(one, deeper - 1) for one in inner)


def _id_of(raw: msgspec.Raw) -> str:
    """The id of an item that cannot be read, if it has one."""
    try:
        found = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return ""
    given = found.get("id", "") if isinstance(found, dict) else ""
    return given[:200] if isinstance(given, str) else ""


def _lowered(error: Exception) -> str:
    """What msgspec says as one line, the path before it."""
    text, _, where = str(error).partition(" - at `")
    text = text.replace("Object contains unknown field", "unknown key").replace(
        "Object missing required field", "missing key"
    )
    path = where.removesuffix("`").removeprefix("$").removeprefix(".")
    if not text[:2].isupper():  # JSON stays JSON
        text = text[:1].lower() + text[1:]
    return f"{path}: {text}" if path else text
