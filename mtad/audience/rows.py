"""Rows of a file → contacts, or reasons why not. Pure.

Two passes: the types of attributes are decided over the whole file (`Types`), then
each row is read with them (`RowReader`). A row is taken whole or not at all.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from mtad.audience.columns import Columns
from mtad.audience.values import Type, joint_type, moment, reader_of
from mtad.base.address import parse_address
from mtad.base.errors import InputError

BASES = ("consent", "existing_customer", "contract")
TRACKING = ("full", "hygiene", "aggregate", "none")

# `trying` is not among them: it needs a running reactivation.
STATES = ("new", "active", "engaged", "reactivated", "inactive")

_ENCODER = msgspec.json.Encoder()
_LOCALE = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]{2,8})*", re.IGNORECASE)


class Rejected(msgspec.Struct, frozen=True):
    """A row that was not taken, or whose permission was not; `line` is where the row begins, from 1."""

    line: int
    email: str
    reason: str


class Contact(msgspec.Struct, frozen=True, gc=False):
    """One good row: the columns of the temporary table `incoming`, in their order.

    Those with a default are filled only where the file or the command can say something.
    """

    line: int
    key: str
    address: str
    domain: str
    attributes: str  # JSON
    locale: str | None = None
    zone: str | None = None
    external_id: str | None = None
    source: str | None = None
    consent_at: datetime | None = None
    tracking: str | None = None
    last_sign: datetime | None = None
    mails_since_sign: int = 0
    state: str | None = None


_ALWAYS = ("line", "key", "address", "domain", "attributes")


class Permission(msgspec.Struct, frozen=True):
    """What the command says about permission; a row's own consent_source goes before `source`.

    `source` '' means that each row must bring its proof: consent_at and consent_source.
    """

    basis: str
    source: str


class Types:
    """The type of every attribute column, from all rows of the file."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._seen: dict[str, Type | None] = dict.fromkeys(columns.attributes)

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Look at more rows; those of a wrong width, which will be rejected, do not count."""
        whole = [row for row in rows if len(row) == self._columns.width]
        for name, position in self._columns.attributes.items():
            if self._seen[name] is not Type.TEXT:
                cells = {row[position].strip() for row in whole}
                self._seen[name] = joint_type(self._seen[name], cells)

    def decided(self, registered: Mapping[str, Type], asked: Mapping[str, Type]) -> dict[str, Type]:
        """The type to read each column with: registered (other contacts rely on it), else asked for, else seen.

        A column that is empty in every row has none, unless it is registered or asked for.
        InputError when a type is asked for that cannot be had.
        """
        for name, kind in asked.items():
            if name not in self._seen:
                raise InputError(f"--type {name}={kind}: the file has no such column of attributes")
            if registered.get(name, kind) is not kind:
                raise InputError(f"--type {name}={kind}: earlier imports made it {registered[name]}")
        types = {name: registered.get(name, asked.get(name, seen)) for name, seen in self._seen.items()}
        return {name: kind for name, kind in types.items() if kind is not None}


class RowReader:
    """Reads rows by one header; told the time and the names of time zones.

    `fields` are those of Contact that a row of this file can fill: the others have their default in all.
    """

    def __init__(
        self,
        columns: Columns,
        types: Mapping[str, Type],
        *,
        permission: Permission | None,
        zones: frozenset[str],
        now: datetime,
    ) -> None:
        self._width = columns.width
        self._email = columns.known["email"]
        self._attributes = [(name, columns.attributes[name], reader_of(kind)) for name, kind in types.items()]
        self._permission = permission
        self._zones = zones
        self._now = now
        readers: dict[str, tuple[str, Callable[[str], object]]] = {
            "locale": ("locale", _locale),
            "zone": ("zone", self._zone),
            "external_id": ("external_id", str),
            "consent_at": ("consent_at", partial(self._past, "consent_at")),
            "consent_source": ("source", str),
            "tracking": ("tracking", partial(_one_of, "tracking", TRACKING)),
            "last_sign_at": ("last_sign", partial(self._past, "last_sign_at")),
            "mails_since_sign": ("mails_since_sign", _count),
            "state": ("state", partial(_one_of, "state", STATES)),
        }
        self._others = [(*readers[name], position) for name, position in columns.known.items() if name != "email"]
        filled = {field for field, _, _ in self._others} | ({"source"} if permission else set())
        self.fields = [name for name in Contact.__struct_fields__ if name in _ALWAYS or name in filled]

    def read(self, line: int, row: Sequence[str]) -> Contact | Rejected:
        """One row: a contact, or the first reason why it is none."""
        try:
            return self._contact(line, row)
        except ValueError as error:
            return Rejected(line, row[self._email].strip() if self._email < len(row) else "", str(error))

    def _contact(self, line: int, row: Sequence[str]) -> Contact:
        if len(row) != self._width:
            raise ValueError(f"{len(row)} cells, the header has {self._width}")
        cell = row[self._email].strip()
        if not cell:
            raise ValueError("email is empty")
        address = parse_address(cell)
        others: dict[str, Any] = {}
        for name, read, position in self._others:
            if cell := row[position].strip():
                others[name] = read(cell)
        if self._permission is not None:
            self._prove(self._permission, others)
        return Contact(line, address.key, address.given, address.domain, self._values(row), **others)

    def _values(self, row: Sequence[str]) -> str:
        values = {}
        for name, position, read in self._attributes:
            if cell := row[position].strip():
                try:
                    values[name] = read(cell)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        return _ENCODER.encode(values).decode()

    def _prove(self, permission: Permission, others: dict[str, Any]) -> None:
        """Complete the proof of a row from the command, or raise what is missing."""
        if not others.setdefault("source", permission.source):
            raise ValueError("consent_source is empty")
        if not permission.source and "consent_at" not in others:
            raise ValueError("consent_at is empty")

    def _past(self, name: str, cell: str) -> datetime:
        try:
            at = moment(cell)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if at > self._now:
            raise ValueError(f"{name}: {cell!r} lies in the future")
        return at

    def _zone(self, cell: str) -> str:
        if cell not in self._zones:
            raise ValueError(f"zone: {cell!r} is not a time zone; write Europe/Berlin")
        return cell


def read_rows(
    reader: RowReader, rows: Iterable[tuple[int, Sequence[str]]], rejected: list[Rejected]
) -> Iterable[Contact]:
    """The good rows as contacts; the bad ones are added to `rejected`."""
    for line, row in rows:
        match reader.read(line, row):
            case Contact() as contact:
                yield contact
            case Rejected() as bad:
                rejected.append(bad)


def _locale(cell: str) -> str:
    if not _LOCALE.fullmatch(cell):
        raise ValueError(f"locale: {cell!r} is not a language tag; write de or de-AT")
    return cell.replace("_", "-")


def _one_of(name: str, words: Sequence[str], cell: str) -> str:
    if cell.lower() not in words:
        raise ValueError(f"{name}: {cell!r} is none of {', '.join(words)}")
    return cell.lower()


def _count(cell: str) -> int:
    # More mails than this to one person without an answer mean no more than this many.
    if not (cell.isascii() and cell.isdecimal() and len(cell) <= 6):
        raise ValueError(f"mails_since_sign: {cell!r} is not a count of mails; write 12")
    return int(cell)
