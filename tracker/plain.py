"""Plain requests for a pixel or a link: the bytes of nearly all hits, read at once. Pure.

A request is plain when it is whole, alone, without a body, and says nothing that would
change how it is framed or answered (RFC 9112). What is not is None here, and aiohttp's to
understand or to refuse; so this reads less than HTTP allows, never more.
"""

import re

import msgspec

from tracker.hits import Method, Reader, reader_of

# Far below what aiohttp takes of a line (8,190) and of headers (128).
MOST_BYTES = 4096
MOST_HEADERS = 64  # beside X-Forwarded-For
MOST_KNOWN = 1024

_LINE = re.compile(rb"(GET|HEAD) /([oc])/([A-Za-z0-9_-]{36})(\.gif|(?:/-[A-Za-z0-9._~%-]*)*) HTTP/1\.1(?=\r\n)")
_HEADERS = re.compile(rb"\r\n((?:[A-Za-z0-9-]+:[ -~\t]*\r\n)+)\r\n")
# As nginx writes it, and as Envoy and HAProxy do.
_FORWARDED, _FORWARDED_LOWER = b"\r\nX-Forwarded-For:", b"\r\nx-forwarded-for:"
_METHODS = {b"GET": Method.GET, b"HEAD": Method.HEAD}
_HEADER = re.compile(r"([A-Za-z0-9-]+):[ \t]*([^\r]*)\r\n")

# What frames a message, or asks for another kind of answer.
_SPECIAL = frozenset({"content-length", "transfer-encoding", "expect", "upgrade", "te", "trailer"})

# What many clients say alike. With any other header, such as X-Real-IP or Cookie, nothing is remembered.
_ALIKE = frozenset({
    "host", "connection", "user-agent", "accept", "accept-encoding", "accept-language", "cache-control", "pragma",
    "purpose", "x-purpose", "x-moz", "priority", "dnt", "upgrade-insecure-requests", "sec-ch-ua", "sec-ch-ua-mobile",
    "sec-ch-ua-platform", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user", "sec-gpc",
    "sec-purpose", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto",
})  # fmt: skip


class Plain(msgspec.Struct, frozen=True, gc=False):
    """One plain request."""

    method: Method  # GET or HEAD
    pixel: bool  # else a click
    token: str
    values: str  # what stands behind a click's token: '' or '/-a/-b'
    reader: Reader
    forwarded: str | None  # X-Forwarded-For


class _Headers(msgspec.Struct, frozen=True, gc=False):
    """What those of a plain request say."""

    reader: Reader
    forwarded: str | None


# Headers that were read, by their bytes: 4 µs otherwise. 4 MB at most.
_known: dict[bytes, _Headers] = {}


def read_plain(data: bytes) -> Plain | None:
    """The request that `data` is; None when it is not plain."""
    # An empty line before the last one would stand among the headers, which is not plain.
    if len(data) > MOST_BYTES or not data.endswith(b"\r\n\r\n") or not (found := _LINE.match(data)):
        return None
    method, kind, token, rest = found.groups()
    pixel = kind == b"o"
    if rest and pixel != (rest == b".gif"):
        return None
    # X-Forwarded-For by itself: it is another's in each request, and the rest is the same in many.
    block, said, behind = data[found.end() :].partition(_FORWARDED)
    if not said:
        block, said, behind = block.partition(_FORWARDED_LOWER)
    forwarded = None
    if said:
        value, end, behind = behind.partition(b"\r\n")
        forwarded = value.decode("latin-1").strip(" ")
        if not (forwarded.isascii() and forwarded.isprintable()):
            return None
        block += end + behind
    headers = _known.get(block) or _read_headers(block)
    if headers is None or (forwarded is not None and headers.forwarded is not None):
        return None
    return Plain(
        _METHODS[method], pixel, token.decode("ascii"), "" if pixel else rest.decode("ascii"),
        headers.reader, headers.forwarded if forwarded is None else forwarded,
    )  # fmt: skip


def _read_headers(block: bytes) -> _Headers | None:
    """What headers say, from the end of the line before them to the empty one; None when they are not plain."""
    if not (found := _HEADERS.fullmatch(block)):
        return None
    lines = _HEADER.findall(found[1].decode("ascii"))
    headers = {name.lower(): value.rstrip(" \t") for name, value in lines}
    if (
        len(headers) < len(lines)
        or len(lines) > MOST_HEADERS
        or "host" not in headers
        or not _SPECIAL.isdisjoint(headers)
        or headers.get("connection", "keep-alive").lower() != "keep-alive"
    ):
        return None
    read = _Headers(reader_of(headers), headers.get("x-forwarded-for"))
    if _ALIKE.issuperset(headers):
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[block] = read
    return read
