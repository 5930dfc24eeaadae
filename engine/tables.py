"""TOML tables as structs, and the words that several of them share. Pure.

Whatever is wrong is one InputError line: the key, then what is wrong with it.
The caller knows the file and puts its name before.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from mtad.base.errors import InputError

DAY = 86400.0

# Longer spans are typing errors, and times that lie beyond the calendar stop whoever adds them.
LONGEST = 3650 * DAY

T = TypeVar("T")

_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a file."""


def decoded(raw: dict[str, Any], into: type[T]) -> T:
    """A table as a struct, its dates as ISO 8601 text; InputError names the key."""
    try:
        return msgspec.convert(msgspec.to_builtins(raw), into)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `")
        path = where.removesuffix("`").removeprefix("$").removeprefix(".")
        if choices := _choices(into, path) if text.startswith("Invalid enum value") else ():
            text = f"{' or '.join(choices)}, is {text.removeprefix('Invalid enum value ')}"
        raise InputError(f"{path}: {_lowered(text)}" if path else _lowered(text)) from None


def _choices(table: object, path: str) -> tuple[str, ...]:
    """The words that may stand at a path of a table."""
    for key in path.split("."):
        fields = {field.encode_name: field.name for field in msgspec.structs.fields(table)}  # type: ignore[arg-type]
        table = get_type_hints(table)[fields[key.partition("[")[0]]]
        if "[" in key:  # of what is in the list, the table
            table = next((inner for inner in get_args(table) if inner in Table.__subclasses__()), table)
    return _words(table)


def _words(hint: object) -> tuple[str, ...]:
    """The values of the Literal inside a type."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next((found for inner in get_args(hint) if (found := _words(inner))), ())


def _lowered(text: str) -> str:
    """The words of msgspec as ours: keys and tables, not fields and objects."""
    text = text.replace("Object contains unknown field", "unknown key")
    text = text.replace("Object missing required field", "missing key")
    return text[:1].lower() + text[1:]


def duration(key: str, text: str, day: float = DAY) -> float:
    """'500ms', '90s', '15m', '6h', '3d' as seconds, 0 to ten years; `day` is the length of one d."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise InputError(f"{key}: {text!r} is not a duration; write 500ms, 90s, 15m, 6h or 3d")
    if match[1].startswith("-"):
        raise InputError(f"{key}: must not be negative, is {text}")
    seconds = float(match[1]) * (day if match[2] == "d" else _UNITS[match[2]])
    if seconds > LONGEST:
        raise InputError(f"{key}: at most ten years, is {text}")
    return seconds


def matches(wanted: Mapping[str, Iterable[Any]], have: Mapping[str, Any]) -> bool:
    """Whether every key that is named has one of the listed values. As in JSON, true is not 1."""
    return all(key in have and any(_same(have[key], value) for value in values) for key, values in wanted.items())


def _same(have: object, wanted: object) -> bool:
    return have == wanted and isinstance(have, bool) == isinstance(wanted, bool)


def name(key: str, text: str) -> str:
    """A name that can stand in a path and on a command line."""
    if not _NAME.fullmatch(text):
        raise InputError(f"{key}: letters, digits, '.', '_' and '-' only, at most 64, is {text!r}")
    return text


def moment(key: str, text: str) -> datetime:
    """'2026-12-01 09:00 Europe/Berlin', or an ISO 8601 time with an offset. In UTC.

    A wall time that a clock change skips is read with the offset before the change.
    """
    try:
        wall, _, zone = text.strip().rpartition(" ")
        if "/" in zone or zone == "UTC":
            read = datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo(zone))
        else:
            read = datetime.fromisoformat(text.strip())
    except (ValueError, ZoneInfoNotFoundError):
        raise InputError(f'{key}: {text!r} is not a time; write "2026-12-01 09:00 Europe/Berlin"') from None
    if read.tzinfo is None:
        raise InputError(f'{key}: {text!r} has no zone; write "2026-12-01 09:00 Europe/Berlin"')
    return read.astimezone(UTC)
