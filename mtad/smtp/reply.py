"""SMTP replies, RFC 5321 section 4.2, with enhanced status codes (RFC 2034, RFC 3463).

Bytes in, replies out; no I/O. What comes out does not depend on how the bytes
were cut on their way here.
"""

import re

import msgspec

# RFC 5321 section 4.5.3.1.5 allows 512 octets with CRLF; some servers need more
# for the address of their help page. Nobody needs a kilobyte.
MAX_LINE = 1024

# A whole reply may be no longer than this, or a hostile server could fill our
# memory with continuation lines. Real EHLO replies are under 2 KiB.
MAX_REPLY = 32 * 1024

# What is kept of a reply's text: it stands in a table row for each mail.
MAX_TEXT = 1000

_CODES = {b"%d" % code: code for code in range(200, 600)}
# Some servers write "#5.1.0" or "5.1.1:"; an address like 4.2.2.1 is none.
_ENHANCED = re.compile(r"#?([245]\.\d{1,3}\.\d{1,3})(?![\d.])[:\s]*", re.ASCII)


class Reply(msgspec.Struct, frozen=True, gc=False):
    """One reply: its code, and what followed that on each of its lines, as it came.

    Of most replies only the code is ever asked for, so the rest is read when it is.
    """

    code: int
    raw: tuple[bytes, ...]

    def read(self) -> tuple[str, list[str]]:
        """The enhanced code like "5.1.1", or "" where there is none, and the lines without the codes, printable."""
        texts = list(map(_printable, self.raw))
        match = _ENHANCED.match(texts[0])
        if match is None:
            return "", texts
        # Multi-line replies repeat the code on each line (RFC 2034 section 4).
        enhanced = match[1]
        texts[0] = texts[0][match.end() :]
        if len(texts) > 1:
            texts[1:] = [_without(enhanced, text) for text in texts[1:]]
        return enhanced, texts

    @property
    def enhanced(self) -> str:
        """The enhanced code like "5.1.1", or "" where the server gave none."""
        return self.read()[0]

    @property
    def lines(self) -> list[str]:
        """Its lines without the codes, printable, as many as it had."""
        return self.read()[1]

    @property
    def text(self) -> str:
        """The reply in one line, codes first, safe to log and to store; cut at MAX_TEXT characters."""
        enhanced, lines = self.read()
        return " ".join(filter(None, (str(self.code), enhanced, *lines)))[:MAX_TEXT]


class NotSmtp(Exception):
    """The server said something that is no reply, or more than we will hold."""


class ReplyReader:
    """Cuts a stream of bytes into replies. After NotSmtp the stream has no meaning any more."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._lines: list[bytes] = []  # of a reply that is not whole yet
        self._code = 0  # its code
        self._size = 0  # its octets

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer[self._at :] + data
        self._at = 0

    @property
    def pending(self) -> bool:
        """Whether bytes are held that no reply has come of yet."""
        return bool(self._lines) or self._at < len(self._buffer)

    def clear(self) -> None:
        """Forget all that is held: before TLS begins nothing said in clear may count."""
        self._buffer = b""
        self._at = 0
        self._lines = []
        self._size = 0

    def next_reply(self) -> Reply | None:
        """The next whole reply, None for "feed me more"; raises NotSmtp."""
        while (end := self._buffer.find(b"\n", self._at)) >= 0:
            length = end + 1 - self._at
            line = self._buffer[self._at : end].rstrip(b"\r")
            self._at = end + 1
            if length > MAX_LINE:
                raise NotSmtp(f"a line of {length} octets")
            code = _CODES.get(line[:3])
            separator = line[3:4]
            if code is None or separator not in b" -":
                raise NotSmtp(f"{_printable(line[:60])!r}, which is not SMTP,")
            if separator != b"-" and not self._lines:
                return Reply(code, (line[4:],))
            self._keep(code, line[4:], length)
            if separator != b"-":
                return self._finish()
        if len(self._buffer) - self._at >= MAX_LINE:
            raise NotSmtp(f"a line of more than {MAX_LINE} octets")
        return None

    def _keep(self, code: int, text: bytes, length: int) -> None:
        """One line of a reply that has several."""
        self._size += length
        if self._size > MAX_REPLY:
            raise NotSmtp(f"a reply of more than {MAX_REPLY} octets")
        if self._lines and code != self._code:
            raise NotSmtp(f"a reply that begins with {self._code} and goes on with {code}")
        self._code = code
        self._lines.append(text)

    def _finish(self) -> Reply:
        reply = Reply(self._code, tuple(self._lines))
        self._lines = []
        self._size = 0
        return reply


def _printable(line: bytes) -> str:
    """Text for logs and tables: control characters would forge lines there, NUL breaks Postgres."""
    text = line.decode("utf-8", "replace").strip()
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def _without(enhanced: str, text: str) -> str:
    match = _ENHANCED.match(text)
    return text[match.end() :] if match and match[1] == enhanced else text
