"""Log lines on stderr, logfmt or JSON, one line each; the worker's slot stands in every one.

At INFO and above no line names a person: the local part of whatever looks like an
address becomes ``…``, in the text, in the fields and in tracebacks. Logs are
copied, shipped and kept by rules of their own; the ledger is where one person's
mail is looked up. DEBUG shows addresses, and is for a machine of one's own.
"""

import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TextIO

# Wider than what `address` accepts, so that a malformed address is hidden too.
_ADDRESS = re.compile(r"[^\s<>()\[\]\"'=,;:@]+@(?=[\w.-]*\w)")

# What logging puts on every record; all else came in by `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

# A value of logfmt that needs no quotes.
_BARE = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")


class LineFormatter(logging.Formatter):
    """One record as one line: time, level, slot, logger, msg, then the fields of `extra`."""

    def __init__(self, layout: str, slot: int | None = None) -> None:
        super().__init__()
        self._layout = layout
        self._slot = slot

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end; values that are no text are written as JSON writes them."""
        hide = record.levelno >= logging.INFO
        fields = {name: _hidden(value) if hide else value for name, value in self._fields(record)}
        if self._layout == "json":
            return json.dumps(fields, default=str, ensure_ascii=False)
        return " ".join(f"{name}={_logfmt_value(value)}" for name, value in fields.items())

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
        at = datetime.fromtimestamp(record.created, UTC)
        yield "time", at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield "level", record.levelname.lower()
        if self._slot is not None:
            yield "slot", self._slot
        yield "logger", record.name
        yield "msg", record.getMessage()
        for name, value in vars(record).items():
            if name not in _STANDARD:
                yield name, value
        if record.exc_info:
            yield "exc", self.formatException(record.exc_info)


def set_up_logging(layout: str, *, slot: int | None = None, debug: bool = False, stream: TextIO | None = None) -> None:
    """Send everything from INFO (or DEBUG) up to stderr, as `layout`: logfmt or json. Replaces earlier set-ups."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(layout, slot))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)


def _hidden(value: object) -> object:
    """The value without local parts; what is neither text nor a number is hidden as its text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return _ADDRESS.sub("…@", str(value))


def _logfmt_value(value: object) -> str:
    """Bare where that is clear, else quoted with JSON's escapes, so that one record stays one line."""
    if isinstance(value, bool):
        return str(value).lower()
    text = "" if value is None else str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
