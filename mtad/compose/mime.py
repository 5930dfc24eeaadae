"""Headers and bodies as bytes: RFC 5322, RFC 2045 to 2047. Pure, and without the email package.

Whatever a template or a contact's data holds, what leaves here has CRLF line ends only,
no NUL, no line above 998 octets, and one header per header. Bodies are UTF-8 in
quoted-printable; no line of it is longer than 76.
"""

import base64
import binascii
import re
from datetime import UTC, datetime

from mtad.compose.faults import ContentFault

# RFC 2047 section 2: a line with encoded words, and one encoded word.
_LINE = 76
_WORD = 75
_SHELL = len("=?utf-8?b??=")

# RFC 5322 section 3.2.3, with blanks: a display name that needs no quotes.
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def date(now: datetime) -> bytes:
    """RFC 5322 section 3.3, in UTC."""
    at = now.astimezone(UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day} {_MONTHS[at.month - 1]} {at.year:04}"
        f" {at.hour:02}:{at.minute:02}:{at.second:02} +0000"
    ).encode()


def unstructured(name: str, text: str) -> bytes:
    """The value of a header such as Subject, folded; encoded words where ASCII does not do.

    ContentFault for a control character: a line break here would be another header.
    """
    if _CONTROL.search(text):
        raise ContentFault(f"content:{name}: control character")
    first = len(name) + 2
    if _PRINTABLE.fullmatch(text) and "=?" not in text and text == text.strip(" "):
        folded = _folded(text, first)
        if folded is not None:
            return folded.encode("ascii")
    return encoded_words(text, first)


def mailbox(name: str, display: str, address: str) -> bytes:
    """`Display Name <local@domain>` for From and the like; `address` must be ASCII."""
    if _CONTROL.search(display) or _CONTROL.search(address):
        raise ContentFault(f"content:{name}: control character")
    if not address.isascii():
        raise ContentFault(f"content:{name}: address needs SMTPUTF8")
    if not display:
        return address.encode("ascii")
    if not _PRINTABLE.fullmatch(display) or "=?" in display or len(display) > _LINE // 2:
        shown = encoded_words(display, len(name) + 2)
    elif _ATOMS.fullmatch(display) and display == display.strip(" "):
        shown = display.encode("ascii")
    else:
        escaped = display.replace("\\", "\\\\").replace('"', '\\"')
        shown = f'"{escaped}"'.encode("ascii")
    last = len(shown) - (shown.rfind(b"\n") + 1) + (len(name) + 2 if b"\n" not in shown else 0)
    gap = b" " if last + len(address) + 3 <= _LINE else b"\r\n "
    return shown + gap + b"<" + address.encode("ascii") + b">"


def encoded_words(text: str, first: int) -> bytes:
    """RFC 2047: as many words as are needed, one a line, no character split; `first` octets are taken already."""
    words: list[bytes] = []
    chunk = b""
    room = _room(_LINE - first)
    for character in text:
        encoded = character.encode("utf-8", "replace")
        if len(chunk) + len(encoded) > room:
            words.append(chunk)
            chunk, room = b"", _room(_LINE - 1)
        chunk += encoded
    words.append(chunk)
    return b"\r\n ".join(b"=?utf-8?b?" + base64.b64encode(word) + b"?=" for word in words)


def _room(width: int) -> int:
    """How many octets one encoded word of at most `width` may carry."""
    return (min(width, _WORD) - _SHELL) // 4 * 3


def _folded(text: str, first: int) -> str | None:
    """ASCII text on lines of at most 76, broken before single blanks; None where a word is too long."""
    if first + len(text) <= _LINE:
        return text
    lines: list[str] = []
    line, room = "", _LINE - first
    # A blank followed by a blank is no place to break: a line of blanks only would be left.
    for word in re.split(r"(?<! ) (?! )", text):
        candidate = f"{line} {word}" if line else word
        if len(candidate) <= room:
            line = candidate
            continue
        if not line or len(word) > _LINE - 1:
            return None
        lines.append(line)
        line, room = word, _LINE - 1
    return "\r\n ".join([*lines, line])


class Quoted:
    """Quoted-printable (RFC 2045 section 6.7), line by line, remembering lines.

    The encoder of the standard library needs 190 µs for 15 KB. Most lines of a mail are
    the template's own and come again with each recipient, so they are looked up: 30 µs.
    What is remembered is bounded: what personal lines there are would only fill it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: dict[str, bytes] = {}

    def encoded(self, text: str) -> bytes:
        """`text` as body with CRLF line ends, the last line ended too."""
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        known = self._lines
        out = [known[line] if line in known else self._learned(line) for line in text.removesuffix("\n").split("\n")]
        out.append(b"")
        return b"\r\n".join(out)

    def _learned(self, line: str) -> bytes:
        encoded = _quoted_line(line)
        if len(self._lines) < self._most:
            self._lines[line] = encoded
        return encoded


def _quoted_line(line: str) -> bytes:
    # Not as text: then the encoder would leave a CR as it is.
    encoded = binascii.b2a_qp(line.encode("utf-8", "replace"), istext=False)
    return encoded.replace(b"\n", b"\r\n")


def alternative(boundary: bytes, parts: list[tuple[bytes, bytes]]) -> bytes:
    """multipart/alternative, RFC 2046 section 5.1.4: (content type, quoted-printable body), the richest last.

    A boundary that contains "=_" can stand in no quoted-printable body.
    """
    out: list[bytes] = []
    for content_type, body in parts:
        out += (
            b"--", boundary, b"\r\nContent-Type: ", content_type,
            b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", body, b"\r\n",
        )  # fmt: skip
    out += (b"--", boundary, b"--\r\n")
    return b"".join(out)
