"""Plain text from the HTML of a template, once, when it is applied. Pure.

The result is a template itself: expressions and statements stand where they stood,
so that per recipient only a few line breaks have to be settled. Links are shown as `text <address>` with the
address that the author wrote, never a tracked one: in plain text it would be long,
ugly, and look like phishing.
"""

import html
import itertools
import re

from mtad.compose.links import unescaped
from mtad.compose.markup import Hidden, Tag, pieces
from mtad.compose.mime import quoted
from mtad.compose.source import Kind, constructs, masked

# fmt: off
_PARAGRAPHS = frozenset({
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "blockquote", "pre", "hr",
    "section", "article", "header", "footer", "form", "fieldset",
})
_LINES = frozenset({
    "br", "div", "tr", "li", "dt", "dd", "address", "center", "caption", "main", "nav", "aside", "body",
    "html", "option", "figure", "figcaption",
})
# fmt: on
_CELLS = frozenset({"td", "th"})
_NOT_SHOWN = frozenset({"head"})

_BLANKS = re.compile(r"[ \t\n\f\r]+")
_SYNTAX = re.compile(r"\{(?=[{%#]|\Z)")


# A blank, the end of a line, an empty line: several in a row count as the strongest.
# Beside a statement it is not known until the statement has run what follows what,
# so there they stay marks (private use, Unicode section 23.5) until `settled`.
_BLANK, _LINE, _PARAGRAPH = "\ue010", "\ue011", "\ue012"
_MARK = re.compile(f"([{_BLANK}-{_PARAGRAPH}])")
_SHOWN = {_BLANK: " ", _LINE: "\n", _PARAGRAPH: "\n\n"}
_SETTLED = {quoted(mark): quoted(text) for mark, text in _SHOWN.items()}
_RUN = re.compile(f"(?:{'|'.join(_SETTLED)})+")


def has_marks(source: str) -> bool:
    """Whether made text has to be quoted by `marked` and then settled."""
    return _MARK.search(source) is not None


def marked(text: str) -> str:
    """Made text quoted, each mark by itself, so that it can be settled."""
    return quoted(text) if text.isascii() else "".join(map(quoted, _MARK.split(text)))


def settled(text: str) -> str:
    """Rendered text whose pieces were quoted by `marked`: its marks as blanks and line breaks, none at either end."""

    def shown(run: re.Match[str]) -> str:
        inside = run.start() > 0 and run.end() < len(text)
        return _SETTLED[max(run[0].splitlines(keepends=True))] if inside else ""

    return _RUN.sub(shown, text)


class _Writer:
    """Collects words, marks and statements."""

    def __init__(self) -> None:
        self._out: list[str] = []

    def put(self, text: str) -> None:
        """A word, an expression, a statement, or a mark."""
        self._out.append(text)

    def text(self) -> str:
        out: list[str] = []
        for is_mark, run in itertools.groupby(self._out, key=_SHOWN.__contains__):
            pieces = list(run)
            if is_mark:
                out.append(max(pieces))
            else:
                out += pieces
        for at, piece in enumerate(out):
            if piece in _SHOWN and not any(map(_is_statement, out[max(0, at - 1) : at + 2])):
                out[at] = _SHOWN[piece]
        return "".join(out)


def plain_text(source: str) -> str:
    """A text template that says what the HTML template says."""
    text = masked(source)
    writer = _Writer()
    hidden = 0  # depth of elements that are not shown
    addresses: list[tuple[str, int]] = []  # of the links that are open, and where their text began
    for piece in pieces(text):
        if isinstance(piece, Hidden):
            continue
        if not isinstance(piece, Tag):
            if not hidden:
                _write(writer, source[piece.start : piece.end])
        elif piece.name in _NOT_SHOWN:
            hidden = max(0, hidden + (-1 if piece.closing else 1))
        elif piece.name == "body" and not piece.closing:
            hidden = 0  # `</head>` may be left out (HTML section 13.1.2.4)
        elif not hidden:
            _tag(writer, source, piece, addresses)
    return writer.text()


def _tag(writer: _Writer, source: str, tag: Tag, addresses: list[tuple[str, int]]) -> None:
    name = tag.name
    if name in _PARAGRAPHS:
        writer.put(_PARAGRAPH)
        if name == "hr":
            writer.put("-" * 40)
            writer.put(_PARAGRAPH)
    elif name in _LINES:
        writer.put(_LINE)
        if name == "li" and not tag.closing:
            writer.put("-")
            writer.put(_BLANK)
    elif name in _CELLS:
        writer.put(_BLANK)
    elif name == "img":
        alternative = tag.attribute("alt")
        if alternative and alternative.start >= 0:
            _write(writer, source[alternative.start : alternative.end])
    elif name == "a":
        _anchor(writer, source, tag, addresses)


def _anchor(writer: _Writer, source: str, tag: Tag, addresses: list[tuple[str, int]]) -> None:
    if not tag.closing:
        href = tag.attribute("href")
        value = source[href.start : href.end] if href and href.start >= 0 else ""
        addresses.append((_address(value), tag.end))
        return
    if not addresses:
        return
    address, start = addresses.pop()
    shown = html.unescape(re.sub(r"<[^>]*>", "", source[start : tag.start])).strip()
    if address and address.removeprefix("mailto:").rstrip("/") != shown.rstrip("/"):
        writer.put(_BLANK)
        writer.put(f"<{address}>")


def _address(value: str) -> str:
    """What to show of an href: nothing for a fragment or a script."""
    address = "".join(text if is_jinja else _escaped(unescaped(text)) for text, is_jinja in _parts(value.strip()))
    return "" if re.match(r"#|javascript:|data:|cid:|$", address, re.IGNORECASE) else address


def _write(writer: _Writer, source: str) -> None:
    """Text of the template: literal blanks collapse as in HTML, Jinja is kept."""
    for piece, is_jinja in _parts(source):
        if is_jinja:
            if not _is_statement(piece):
                writer.put(piece)
            else:
                # Authors trim the blanks around a block, which mean little in HTML; here it would glue lines.
                writer.put(re.sub(r"^\{%[-+]|[-+]%\}$", lambda sign: sign[0].strip("-+"), piece))
            continue
        for number, word in enumerate(_BLANKS.split(piece)):
            if number:
                writer.put(_BLANK)
            if word:
                writer.put(_escaped(html.unescape(word).replace("\xa0", " ")))


def _parts(source: str) -> list[tuple[str, bool]]:
    """The literal pieces and the constructs of Jinja, in order."""
    parts: list[tuple[str, bool]] = []
    at = 0
    for construct in constructs(source):
        parts.append((source[at : construct.start], False))
        if construct.kind is not Kind.COMMENT:
            parts.append((source[construct.start : construct.end], True))
        at = construct.end
    parts.append((source[at:], False))
    return [part for part in parts if part[0]]


def _is_statement(piece: str) -> bool:
    return piece.startswith("{%") and not _is_raw(piece)


def _is_raw(piece: str) -> bool:
    return re.match(r"\{%[-+]?\s*raw\b", piece) is not None


def _escaped(text: str) -> str:
    """Decoded text must not become Jinja: `&#123;{` is two braces, not an expression."""
    return _SYNTAX.sub("{{ '{' }}", text)
