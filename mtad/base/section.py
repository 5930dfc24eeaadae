"""What the tables of our TOML files are made of: frozen structs, durations, rates, errors that name the key."""

import re
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from mtad.base.errors import ConfigError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_RATE = re.compile(r"(\d+)/(s|min|m|h|d|sec|hour|day)(?:,\s*max_burst=(\d+))?")
_PERIODS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}

_STEP = re.compile(r"\[(\d+|\.\.\.)\]|\.?([^.\[\]]+)")

T = TypeVar("T")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file."""


class Rate(msgspec.Struct, frozen=True):
    """How many a second, and how many at once after a pause."""

    per_second: float
    burst: float


@lru_cache(maxsize=256)  # few texts, asked for at each session
def seconds(text: str) -> float:
    """'500ms', '90s', '15m', '6h', '3d' as seconds; ValueError otherwise."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration; write 500ms, 90s, 15m, 6h or 3d")
    return float(match[1]) * _UNITS[match[2]]


@lru_cache(maxsize=256)
def rate(text: str) -> Rate:
    """'100/s', '5000/h,max_burst=50'; without max_burst one second's worth may go at once, at least 1."""
    match = _RATE.fullmatch(text.strip())
    if not match or int(match[1]) == 0 or match[3] == "0":
        raise ValueError(f"{text!r} is not a rate; write 100/s, 300/min or 5000/h,max_burst=50")
    per_second = int(match[1]) / _PERIODS[match[2]]
    return Rate(per_second, float(match[3]) if match[3] else max(1.0, per_second))


def decoded(raw: dict[str, Any], into: type[T], source: object) -> T:
    """A table as a struct; ConfigError in one line: file, key, what is wrong."""
    try:
        return msgspec.convert(raw, into)
    except msgspec.ValidationError as error:
        said = str(error)
    key = _key(raw, into, said)
    raise ConfigError(f"{source}: {key + ': ' if key else ''}{said.partition(' - at `')[0]}")


def dotted(*names: str) -> str:
    """The names of tables as TOML writes them: shape.domain."gmail.com"."""
    return ".".join(name if re.fullmatch(r"[\w-]+", name) else f'"{name}"' for name in names)


def _key(raw: dict[str, Any], into: type[Any], said: str) -> str:
    """Where msgspec found something wrong. In a table of tables it does not say in which; so each is tried alone."""
    key = ""
    tables: list[str | int] = []
    for number, name in _STEP.findall(said.partition(" - at `")[2].strip("$`")):
        if number == "...":
            table = _at(raw, tables)
            alone = ((one, _with_only(raw, tables, one)) for one in table)
            wrong, raw = next((one, cut) for one, cut in alone if _says(cut, into) == said)
            tables.append(wrong)
            key += "." + dotted(wrong)
        elif number:
            tables.append(int(number))
            key += f"[{number}]"
        else:
            tables.append(name)
            key += f".{name}"
    return key.removeprefix(".")


def _says(raw: object, into: type[Any]) -> str:
    try:
        msgspec.convert(raw, into)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _at(raw: Any, tables: list[str | int]) -> Any:  # noqa: ANN401 - whatever TOML holds
    for name in tables:
        raw = raw[name]
    return raw


def _with_only(raw: Any, tables: list[str | int], one: str) -> Any:  # noqa: ANN401 - likewise
    """A copy in which the table at that place has one key left."""
    if not tables:
        return {one: raw[one]}
    changed: Any = list(raw) if isinstance(raw, list) else dict(raw)
    changed[tables[0]] = _with_only(raw[tables[0]], tables[1:], one)
    return changed
