"""Where Jinja stands in the source of a template. Pure.

HTML is read on a copy of the source in which every Jinja construct is blotted out
with a filler of the same length: its quotes and angle brackets are then nobody's,
and each position in the copy is the same position in the source.
"""

import re
from collections.abc import Iterator
from enum import Enum

import msgspec

# Private use (Unicode section 23.5). One that stands in the source itself is
# shown as its neighbour, so that a filler is always Jinja.
FILLER = "\ue000"
_NEIGHBOUR = "\ue001"

_OPENING = re.compile(r"\{[{%#]")
_RAW = re.compile(r"\{%[-+]?\s*raw\s*-?%\}")
_ENDRAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_PIECE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[([{)\]]|\}\}|%\}|\}", re.DOTALL)


class Kind(Enum):
    EXPRESSION = "{{ }}"
    STATEMENT = "{% %}"
    COMMENT = "{# #}"
    RAW = "{% raw %} to {% endraw %}"


class Construct(msgspec.Struct, frozen=True):
    """One construct of the source, its delimiters included."""

    kind: Kind
    start: int
    end: int


def constructs(source: str) -> Iterator[Construct]:
    """All of them in order; what is not closed reaches to the end (it does not compile either)."""
    at = 0
    while match := _OPENING.search(source, at):
        start = match.start()
        if match[0] == "{#":
            kind, end = Kind.COMMENT, source.find("#}", start + 2) + 2
            end = end if end > 1 else len(source)
        elif raw := _RAW.match(source, start):
            closed = _ENDRAW.search(source, raw.end())
            kind, end = Kind.RAW, closed.end() if closed else len(source)
        elif match[0] == "{{":
            kind, end = Kind.EXPRESSION, _closed(source, start + 2, "}}")
        else:
            kind, end = Kind.STATEMENT, _closed(source, start + 2, "%}")
        yield Construct(kind, start, end)
        at = end


def masked(source: str) -> str:
    """The source with fillers for Jinja, position by position."""
    pieces: list[str] = []
    at = 0
    for construct in constructs(source):
        pieces += (source[at : construct.start].replace(FILLER, _NEIGHBOUR), FILLER * (construct.end - construct.start))
        at = construct.end
    pieces.append(source[at:].replace(FILLER, _NEIGHBOUR))
    return "".join(pieces)


def expression(text: str) -> str:
    """What stands between the braces of `{{ … }}`, without the signs that trim blanks."""
    inner = text[2:-2]
    inner = inner[1:] if inner[:1] in "-+" else inner
    return inner.removesuffix("-").strip()


def _closed(source: str, at: int, closer: str) -> int:
    """Just behind the closer that matches: none inside a string or a bracket counts, as in Jinja's lexer."""
    depth = 0
    while match := _PIECE.search(source, at):
        piece, at = match[0], match.end()
        if piece == closer and depth == 0:
            return at
        if piece in "([{":
            depth += 1
        elif piece in ")]}":
            depth -= 1
        elif piece in ("}}", "%}"):
            depth -= piece == "}}"
            at = match.start() + 1
    return len(source)
