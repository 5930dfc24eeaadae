"""Headers and bodies as bytes: RFC 5322, RFC 2045 to 2047. Pure, and without the email package.

Whatever a template or a contact's data holds, what leaves here has CRLF line ends only,
no NUL, no line above 998 octets, and one header per header. Bodies are UTF-8 in
quoted-printable; no line of it is longer than 76.
"""

import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from mtad.compose.faults import ContentFault

# RFC 2047 section 2: a line with encoded words, and one encoded word.
_LINE = 76
_WORD = 75
_SHELL = len("=?utf-8?b??=")

# A line of quoted-printable, without the = of a soft line break; what of it cannot stand as it is. A dot at the
# start of a line could (RFC 2049 section 3 advises against it), but SMTP would have to look for it and double it.
_QUOTED = 75
_UNSAFE = re.compile(rb"[^\n !-<>-~]| (?=[ \n])|(?<![^\n])\.")

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
    first = len(name) + 2
    if text.isascii() and text.isprintable() and "=?" not in text and text == text.strip(" "):
        folded = _folded(text, first)
        if folded is not None:
            return folded.encode("ascii")
    if _CONTROL.search(text):
        raise ContentFault(f"content:{name}: control character")
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
    whole = text.encode("utf-8", "replace")
    for character in text if len(whole) > room else ():
        encoded = character.encode("utf-8", "replace")
        if len(chunk) + len(encoded) > room:
            words.append(chunk)
            chunk, room = b"", _room(_LINE - 1)
        chunk += encoded
    words.append(chunk or whole)
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


def quoted(text: str) -> str:
    """Quoted-printable (RFC 2045 section 6.7) that begins and ends at the start of a line.

    So texts can be quoted apart and put together in any order: quoted(a) + quoted(b) stands
    for a + b, and no line is longer than 76. A text that does not end with a line break ends
    with a soft one. Line breaks are CRLF. It is in the canonical form of DKIM too: no tab,
    no two blanks in a row, no blank before a CRLF; and no line begins with a dot.
    """
    if (
        len(text) <= _QUOTED and text.isascii() and text.isprintable()
        and "=" not in text and "  " not in text and not text.startswith(".")
    ):  # fmt: skip
        return f"{text}=\r\n" if text else ""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    plain = _UNSAFE.sub(_hex, text.encode("utf-8", "replace")).decode("ascii")
    out: list[str] = []
    for line in plain.split("\n"):
        rest = line
        while len(rest) > _QUOTED:
            sign = rest.find("=", _QUOTED - 2, _QUOTED)  # =XX is not to be cut
            end = _QUOTED if sign < 0 else sign
            out.append(rest[:end] + "=")
            rest = rest[end:] if rest[end] != "." else f"=2E{rest[end + 1 :]}"
        out.append(rest)
    if out[-1]:
        out[-1] += "="
        out.append("")
    return "\r\n".join(out)


def _hex(match: re.Match[bytes]) -> bytes:
    return b"=%02X" % match[0][0]


def ended(text: str) -> str:
    """Quoted text as a whole body: its last line is ended too."""
    return text if text.endswith("\r\n") and not text.endswith("=\r\n") else text + "\r\n"


def alternative(boundary: str, parts: Sequence[tuple[str, str]]) -> str:
    """multipart/alternative, RFC 2046 section 5.1.4: (content type, quoted body), the richest last.

    A boundary that contains "=_" can stand in no quoted-printable body.
    """
    out: list[str] = []
    for kind, body in parts:
        head = f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        out += (head, body, "\r\n")
    return "".join([*out, f"--{boundary}--\r\n"])
