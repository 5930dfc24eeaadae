"""HTML as tags, text and the rest, with the position of each. Pure.

Only as much of the HTML standard's tokenizer (section 13.2.5) as finding links
needs. It reads what `masked` made of a template's source and changes nothing, so
whatever it fails to understand stays as it was.
"""

import re
from collections.abc import Iterator

import msgspec

from mtad.compose.source import FILLER

BLANK = " \t\n\f\r"
# Between these tags stands no markup (section 13.2.5, RCDATA and RAWTEXT).
_OPAQUE = frozenset({"script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"})

_TAG_NAME = re.compile(rf"[A-Za-z][^{BLANK}/>{FILLER}]*")
_ATTRIBUTE_NAME = re.compile(rf"[^{BLANK}/>][^{BLANK}/>=]*")
_EQUALS = re.compile(rf"[{BLANK}]*=[{BLANK}]*")
_UNQUOTED = re.compile(rf"[^{BLANK}>]+")
_BETWEEN = re.compile(rf"[{BLANK}/]*")


class Attribute(msgspec.Struct, frozen=True):
    """A name in lower case, and where its value stands, without its quotes; start is -1 where it has none."""

    name: str
    start: int = -1
    end: int = -1


class Tag(msgspec.Struct, frozen=True):
    """A start tag, or an end tag, from its `<` to behind its `>`."""

    name: str  # in lower case
    closing: bool
    attributes: tuple[Attribute, ...]
    start: int
    end: int

    def attribute(self, name: str) -> Attribute | None:
        """The first of this name: it is the one that counts."""
        return next((attribute for attribute in self.attributes if attribute.name == name), None)


class Text(msgspec.Struct, frozen=True):
    """What a reader sees, entities not decoded."""

    start: int
    end: int


class Hidden(msgspec.Struct, frozen=True):
    """Comments, declarations, and what stands inside script, style and the like."""

    start: int
    end: int


Piece = Tag | Text | Hidden


def pieces(html: str) -> Iterator[Piece]:
    """All of it in order, without a gap; a tag that is not closed is hidden, to the end."""
    at = 0
    while at < len(html):
        start = html.find("<", at)
        # A "<" that opens nothing is text.
        while start >= 0 and not re.match(r"[A-Za-z!?/]", html[start + 1 : start + 2]):
            start = html.find("<", start + 1)
        if start < 0:
            yield Text(at, len(html))
            return
        if start > at:
            yield Text(at, start)
        piece = _tag(html, start) or Hidden(start, _end_of_hidden(html, start))
        yield piece
        at = piece.end
        if isinstance(piece, Tag) and not piece.closing and piece.name in _OPAQUE:
            closed = re.compile(rf"</{piece.name}(?=[{BLANK}/>])", re.IGNORECASE).search(html, at)
            end = closed.start() if closed else len(html)
            if end > at:
                yield Hidden(at, end)
            at = end


def _end_of_hidden(html: str, start: int) -> int:
    if re.compile(r"</?[A-Za-z]").match(html, start):
        return len(html)
    if html.startswith(("<!-->", "<!--->"), start):
        return html.index(">", start) + 1
    if html.startswith("<!--", start):
        ends = [at + len(mark) for mark in ("-->", "--!>") if (at := html.find(mark, start + 4)) >= 0]
        return min(ends, default=len(html))
    closed = html.find(">", start)
    return closed + 1 if closed >= 0 else len(html)


def _tag(html: str, start: int) -> Tag | None:
    closing = html.startswith("</", start)
    name = _TAG_NAME.match(html, start + 1 + closing)
    if not name:
        return None
    attributes: list[Attribute] = []
    at = name.end()
    while True:
        between = _BETWEEN.match(html, at)
        at = between.end() if between else at
        if at >= len(html):
            return None
        if html[at] == ">":
            return Tag(name[0].lower(), closing, tuple(attributes), start, at + 1)
        attribute = _attribute(html, at)
        if attribute is None:
            return None
        found, at = attribute
        attributes.append(found)


def _attribute(html: str, at: int) -> tuple[Attribute, int] | None:
    """One attribute and where it ends; None when its quote is never closed."""
    match = _ATTRIBUTE_NAME.match(html, at)
    assert match  # `at` is neither blank, "/" nor ">"
    # Jinja around a name belongs to the template, not to the name.
    name, at = match[0].strip(FILLER).lower(), match.end()
    equals = _EQUALS.match(html, at)
    if not equals:
        return Attribute(name), at
    at = equals.end()
    if html[at : at + 1] in ('"', "'"):
        closed = html.find(html[at], at + 1)
        return None if closed < 0 else (Attribute(name, at + 1, closed), closed + 1)
    value = _UNQUOTED.match(html, at)
    return (Attribute(name, at, value.end()), value.end()) if value else (Attribute(name), at)
