"""Links of a template: found, taken out, and replaced by calls; all else stays byte for byte. Pure.

    <a href="https://shop.example/p/{{ sku }}?a=1&amp;b=2">
    <a href="{{ mtad_link(1, (sku)) }}">            Link(1, "https://shop.example/p/{0}?a=1&b=2")

The call is answered for each recipient: with a tracked address, or, where nobody
may be measured, with the destination itself. Scheme and host are always those that
the author wrote: where a value could change them, the link is left alone.
"""

import html
import re
from collections.abc import Mapping, Sequence
from html.entities import html5
from urllib.parse import quote, unquote

import msgspec

from mtad.base.address import normal_domain
from mtad.compose.markup import Attribute, Tag, pieces
from mtad.compose.source import FILLER, Kind, constructs, expression, masked

CALL = "mtad_link"

# How authors say that a link is not to be tracked, here and where they come from.
_NOT_TRACKED = {
    "data-no-track": None,
    "data-pm-no-track": None,  # Postmark
    "ses:no-track": None,  # Amazon SES
    "mautic:disable-tracking": None,
    "clicktracking": "off",  # SendGrid
    "data-msys-clicktrack": "0",  # SparkPost
}

# RFC 3986: what may stand in a URL as it is. Braces may not, so {0} is always a value.
_AS_IT_IS = "!#$%&'()*+,-./:;=?@[]_~"
_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[^/?#\\@:\[\]\s]+|\[[0-9A-Fa-f:.]+\])(?P<port>:\d+)?(?=[/?#]|$)", re.IGNORECASE
)
# Values are percent-encoded where they are filled in; twice would be once too often.
_URLENCODE = re.compile(r"\s*\|\s*urlencode\s*(?:\(\s*\))?$")
_SLOT = re.compile(r"\{(\d+)\}")
_REFERENCE = re.compile(r"&(?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[A-Za-z][A-Za-z0-9]*;?)(=?)")


class Link(msgspec.Struct, frozen=True):
    """A destination. `position` counts from 1 through the message; {0}, {1} in `url` stand for values."""

    position: int
    url: str


def rewritten(source: str) -> tuple[str, tuple[Link, ...]]:
    """The source with a call for each link that is tracked, and those links.

    Only href of `a` and `area` with http or https. Raises nothing: what is not understood stays.
    """
    text = masked(source)
    out: list[str] = []
    links: list[Link] = []
    at = 0
    for tag, href in hrefs(text):
        if _is_not_tracked(text, tag):
            continue
        found = destination(source, text, href)
        if found is None:
            continue
        url, expressions = found
        links.append(Link(len(links) + 1, url))
        arguments = "".join(f", ({value})" for value in expressions)
        out += (source[at : href.start], f"{{{{ {CALL}({len(links)}{arguments}) }}}}")
        at = href.end
    out.append(source[at:])
    return "".join(out), tuple(links)


def hrefs(text: str) -> list[tuple[Tag, Attribute]]:
    """Each `a` and `area` of masked source that has an href with a value."""
    found = []
    for piece in pieces(text):
        if isinstance(piece, Tag) and not piece.closing and piece.name in ("a", "area"):
            href = piece.attribute("href")
            if href and href.start >= 0:
                found.append((piece, href))
    return found


def destination(source: str, text: str, href: Attribute) -> tuple[str, list[str]] | None:
    """The URL with {0}, {1} for the expressions in it, and these; None for one that is not tracked."""
    literal: list[str] = []
    expressions: list[str] = []
    at = href.start
    if FILLER in text[href.start : href.end]:
        for construct in constructs(source[href.start : href.end]):
            if construct.kind is not Kind.EXPRESSION:
                return None
            literal.append(source[at : href.start + construct.start])
            value = expression(source[href.start + construct.start : href.start + construct.end])
            expressions.append(_URLENCODE.sub("", value))
            at = href.start + construct.end
    literal.append(source[at : href.end])
    # Browsers drop blanks around an address and line breaks within (WHATWG URL, section 4.4).
    texts = [re.sub(r"[\t\r\n]", "", unescaped(piece)) for piece in literal]
    texts[0] = texts[0].lstrip(" ")
    texts[-1] = texts[-1].rstrip(" ")
    origin = _ORIGIN.match(texts[0])
    if not origin or (expressions and origin.end() == len(texts[0])):
        return None
    host = origin["host"]
    if not host.isascii():
        try:
            host = normal_domain(host)
        except ValueError:
            return None
    texts[0] = f"{origin['scheme']}://{host}{origin['port'] or ''}{texts[0][origin.end() :]}"
    url = quote(texts[0].encode("utf-8", "replace"), safe=_AS_IT_IS)
    for number, piece in enumerate(texts[1:]):
        url += f"{{{number}}}" + quote(piece.encode("utf-8", "replace"), safe=_AS_IT_IS)
    return url, expressions


def with_utm(url: str, utm: Mapping[str, str]) -> str:
    """The destination with `utm_` parameters at the end of its query, but for those that it has.

    What stands there is the author's: it is neither changed nor moved, and neither is the fragment.
    """
    rest, mark, fragment = url.partition("#")
    head, question, query = rest.partition("?")
    there = {unquote(pair.partition("=")[0]).lower() for pair in query.split("&")}
    fresh = [f"utm_{key}={quote(value, safe='')}" for key, value in utm.items() if f"utm_{key}" not in there]
    if not fresh:
        return url
    joined = "&".join(([query.removesuffix("&")] if query else []) + fresh)
    return f"{head}{question or '?'}{joined}{mark}{fragment}"


def unescaped(value: str) -> str:
    """An attribute's value with its character references decoded.

    In an attribute `&copy=` and `&copyright` are text (HTML section 13.2.5.73): decoding them,
    as html.unescape does, breaks every second address that was written with a plain `&`.
    """

    def decode(match: re.Match[str]) -> str:
        reference, equals = match[0].removesuffix("=") if match[1] else match[0], match[1]
        if reference[1] == "#" or reference.endswith(";"):
            known = reference[1] == "#" or reference[1:] in html5
            return (html.unescape(reference) if known else reference) + equals
        return reference + equals if equals or reference[1:] not in html5 else html.unescape(reference)

    return _REFERENCE.sub(decode, value)


def filled(url: str, values: Sequence[str]) -> str:
    """The destination with this recipient's values in it, percent-encoded, as the tracker fills it."""
    return _SLOT.sub(lambda slot: quote(values[int(slot[1])], safe=""), url) if values else url


def _is_not_tracked(text: str, tag: Tag) -> bool:
    for attribute in tag.attributes:
        if attribute.name in _NOT_TRACKED:
            wanted = _NOT_TRACKED[attribute.name]
            if wanted is None or text[attribute.start : attribute.end].strip().lower() == wanted:
                return True
    return False
