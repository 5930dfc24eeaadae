"""What the text of a cell is: text, number, date or bool. Pure.

The four kinds exclude each other, so the type of a column is the one kind that all
its filled cells share, and text when they differ. The reading is narrow on purpose:
what could be an identifier stays text, because a wrong guess is found out only in
a mail. So 01099 (a postcode), +49170… (a phone number), 1,5 and 1e3 are text, and
so are yes and NO (a country).
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import assert_never

# More digits than this do not survive a double, and are an identifier anyway.
MAX_DIGITS = 15

# The longest cell that is not text: 1999-02-28T12:00:00.000000+00:00.
_LONGEST = 32

# Short cells of which it is remembered what they are, for columns repeat themselves.
_REMEMBERED = 8192

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?", re.ASCII)

Value = str | int | float | bool


class Type(StrEnum):
    """The types of attributes, as the table `attribute` names them."""

    TEXT = "text"
    NUMBER = "number"
    DATE = "date"
    BOOL = "bool"


EXAMPLES = {
    Type.TEXT: "any text",
    Type.NUMBER: "1200 or 9.95",
    Type.DATE: "1999-02-28 or 1999-02-28T12:00:00Z",
    Type.BOOL: "true or false",
}


def type_of(cell: str) -> Type:
    """The one type a filled cell has."""
    return _short_type_of(cell) if len(cell) <= _LONGEST else Type.TEXT


@lru_cache(_REMEMBERED)
def _short_type_of(cell: str) -> Type:
    if _is_number(cell):
        return Type.NUMBER
    if cell.lower() in ("true", "false"):
        return Type.BOOL
    try:
        moment(cell)
    except ValueError:
        return Type.TEXT
    return Type.DATE


def joint_type(known: Type | None, cells: Iterable[str]) -> Type | None:
    """The narrowest type of `cells` and of a column that was `known` so far; None while all are empty.

    The order of the cells, and how they are cut into pieces, does not matter.
    """
    for cell in cells:
        if known is Type.TEXT:
            break
        if cell and (kind := type_of(cell)) is not known:
            known = kind if known is None else Type.TEXT
    return known


def reader_of(kind: Type) -> Callable[[str], Value]:
    """What makes a filled cell the value that is stored; it raises ValueError when the cell is not of that type.

    Dates are stored as ISO 8601 text: a day as it is, a moment in UTC with Z.
    """
    match kind:
        case Type.TEXT:
            return str
        case Type.NUMBER:
            return _number
        case Type.BOOL:
            return _bool
        case Type.DATE:
            return _date
        case _:
            assert_never(kind)


@lru_cache(_REMEMBERED)
def _number(cell: str) -> Value:
    if not _is_number(cell):
        raise _not_of(Type.NUMBER, cell)
    return float(cell) if "." in cell else int(cell)


def _bool(cell: str) -> Value:
    word = cell.lower()
    if word not in ("true", "false"):
        raise _not_of(Type.BOOL, cell)
    return word == "true"


@lru_cache(_REMEMBERED)
def _date(cell: str) -> Value:
    at = moment(cell)
    return cell if _DAY.fullmatch(cell) else at.isoformat().replace("+00:00", "Z")


def _not_of(kind: Type, cell: str) -> ValueError:
    return ValueError(f"{cell!r} is not a {kind}; write {EXAMPLES[kind]}")


def moment(cell: str) -> datetime:
    """A day (its first moment) or a time in ISO 8601, in UTC unless it says otherwise; ValueError otherwise."""
    try:
        if _DAY.fullmatch(cell):
            day = date.fromisoformat(cell)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        if _MOMENT.fullmatch(cell):
            at = datetime.fromisoformat(cell)
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass  # the form of a date, and none: 1999-02-31
    raise _not_of(Type.DATE, cell)


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None and sum(map(str.isdigit, cell)) <= MAX_DIGITS
