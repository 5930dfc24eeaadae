"""Rows of a file → contacts, or reasons why not. Pure.

Two passes: the types of attributes are decided over the whole file (`Types`), then
each row is read with them (`RowReader`). A row is taken whole or not at all.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from mtad.audience.columns import Columns
from mtad.audience.values import Type, joint_type, moment, value_of
from mtad.base.address import parse_address
from mtad.base.errors import InputError

BASES = ("consent", "existing_customer", "contract")
TRACKING = ("full", "hygiene", "aggregate", "none")

# `trying` is not among them: it needs a running reactivation.
STATES = ("new", "active", "engaged", "reactivated", "inactive")

_LOCALE = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]{2,8})*", re.IGNORECASE)


class Rejected(msgspec.Struct, frozen=True):
    """A row that was not taken, or whose permission was not; `line` is where the row begins, from 1."""

    line: int
    email: str
    reason: str


class Contact(msgspec.Struct, frozen=True, gc=False):
    """One good row: the columns of the temporary table `incoming`, in their order."""

    line: int
    key: str
    address: str
    domain: str
    locale: str | None
    zone: str | None
    external_id: str | None
    attributes: str  # JSON
    basis: str | None
    source: str | None
    consent_at: datetime | None
    tracking: str | None
    last_sign: datetime | None
    mails_since_sign: int
    state: str | None


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
    """Reads rows by one header; told the time and the names of time zones."""

    def __init__(
        self,
        columns: Columns,
        types: Mapping[str, Type],
        *,
        permission: Permission | None,
        zones: frozenset[str],
        now: datetime,
    ) -> None:
        self._columns = columns
        self._attributes = [(name, columns.attributes[name], kind) for name, kind in types.items()]
        self._permission = permission
        self._zones = zones
        self._now = now

    def read(self, line: int, row: Sequence[str]) -> Contact | Rejected:
        """One row: a contact, or the first reason why it is none."""
        try:
            return self._contact(line, row)
        except ValueError as error:
            at = self._columns.known["email"]
            return Rejected(line, row[at].strip() if at < len(row) else "", str(error))

    def _contact(self, line: int, row: Sequence[str]) -> Contact:
        if len(row) != self._columns.width:
            raise ValueError(f"{len(row)} cells, the header has {self._columns.width}")
        cells = {name: row[position].strip() for name, position in self._columns.known.items()}
        if not cells["email"]:
            raise ValueError("email is empty")
        address = parse_address(cells["email"])
        basis, source, consent_at = self._proof(cells)
        return Contact(
            line=line,
            key=address.key,
            address=address.given,
            domain=address.domain,
            locale=_locale(cells.get("locale", "")),
            zone=self._zone(cells.get("zone", "")),
            external_id=cells.get("external_id") or None,
            attributes=self._values(row),
            basis=basis,
            source=source,
            consent_at=consent_at,
            tracking=_one_of("tracking", cells.get("tracking", ""), TRACKING),
            last_sign=self._past("last_sign_at", cells.get("last_sign_at", "")),
            mails_since_sign=_count("mails_since_sign", cells.get("mails_since_sign", "")),
            state=_one_of("state", cells.get("state", ""), STATES),
        )

    def _values(self, row: Sequence[str]) -> str:
        values = {}
        for name, position, kind in self._attributes:
            if cell := row[position].strip():
                try:
                    values[name] = value_of(kind, cell)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        return msgspec.json.encode(values).decode()

    def _proof(self, cells: Mapping[str, str]) -> tuple[str | None, str | None, datetime | None]:
        if self._permission is None:
            return None, None, None
        consent_at = self._past("consent_at", cells.get("consent_at", ""))
        source = cells.get("consent_source") or self._permission.source
        if not source:
            raise ValueError("consent_source is empty")
        if not self._permission.source and consent_at is None:
            raise ValueError("consent_at is empty")
        return self._permission.basis, source, consent_at

    def _past(self, name: str, cell: str) -> datetime | None:
        if not cell:
            return None
        try:
            at = moment(cell)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if at > self._now:
            raise ValueError(f"{name}: {cell!r} lies in the future")
        return at

    def _zone(self, cell: str) -> str | None:
        if cell and cell not in self._zones:
            raise ValueError(f"zone: {cell!r} is not a time zone; write Europe/Berlin")
        return cell or None


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


def _locale(cell: str) -> str | None:
    if cell and not _LOCALE.fullmatch(cell):
        raise ValueError(f"locale: {cell!r} is not a language tag; write de or de-AT")
    return cell.replace("_", "-") or None


def _one_of(name: str, cell: str, words: Sequence[str]) -> str | None:
    if cell and cell.lower() not in words:
        raise ValueError(f"{name}: {cell!r} is none of {', '.join(words)}")
    return cell.lower() or None


def _count(name: str, cell: str) -> int:
    # More mails than this to one person without an answer mean no more than this many.
    if cell and not (cell.isascii() and cell.isdecimal() and len(cell) <= 6):
        raise ValueError(f"{name}: {cell!r} is not a count of mails; write 12")
    return int(cell or 0)
