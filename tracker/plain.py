"""Plain requests for a pixel or a link: the bytes of nearly all hits, read at once. Pure.

A request is plain when it is whole, alone, without a body, and says nothing that would
change how it is framed or answered (RFC 9112). What is not is None here, and aiohttp's to
understand or to refuse; so this reads less than HTTP allows, never more.
"""

import re

import msgspec

# Far below what aiohttp takes of a line (8,190) and of headers (128).
MOST_BYTES = 4096
MOST_HEADERS = 64

_REQUEST = re.compile(
    rb"(GET|HEAD) /([oc])/([A-Za-z0-9_-]{36})(\.gif|(?:/-[A-Za-z0-9._~%-]*)*) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]+:[ -~\t]*\r\n)+)\r\n"
)
_HEADER = re.compile(r"([A-Za-z0-9-]+):[ \t]*([^\r]*)\r\n")

# What frames a message, or asks for another kind of answer.
_SPECIAL = frozenset({"content-length", "transfer-encoding", "expect", "upgrade", "te", "trailer"})


class Plain(msgspec.Struct, frozen=True, gc=False):
    """One plain request."""

    method: str  # GET or HEAD
    pixel: bool  # else a click
    token: str
    values: str  # what stands behind a click's token: '' or '/-a/-b'
    headers: dict[str, str]  # by name in lower case; none of them stood there twice


def read_plain(data: bytes) -> Plain | None:
    """The request that `data` is; None when it is not plain."""
    if len(data) > MOST_BYTES or not (found := _REQUEST.fullmatch(data)):
        return None
    method, kind, token, rest, block = found.groups()
    pixel = kind == b"o"
    if rest and pixel != (rest == b".gif"):
        return None
    lines = _HEADER.findall(block.decode("ascii"))
    headers = {name.lower(): value.rstrip(" \t") for name, value in lines}
    if (
        len(headers) < len(lines)
        or len(lines) > MOST_HEADERS
        or "host" not in headers
        or not _SPECIAL.isdisjoint(headers)
        or headers.get("connection", "keep-alive").lower() != "keep-alive"
    ):
        return None
    return Plain(method.decode("ascii"), pixel, token.decode("ascii"), "" if pixel else rest.decode("ascii"), headers)
