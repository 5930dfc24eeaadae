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

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
# Some servers write "#5.1.0" or "5.1.1:"; an address like 4.2.2.1 is none.
_ENHANCED = re.compile(r"#?([245]\.\d{1,3}\.\d{1,3})(?![\d.])[:\s]*", re.ASCII)


class Reply(msgspec.Struct, frozen=True, gc=False):
    """One reply: `lines` are its texts without the codes, printable, as many as it had."""

    code: int
    enhanced: str  # "5.1.1", or "" where the server gave none
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The reply in one line, codes first, safe to log and to store; cut at MAX_TEXT characters."""
        return " ".join(part for part in (str(self.code), self.enhanced, *self.lines) if part)[:MAX_TEXT]


class NotSmtp(Exception):
    """The server said something that is no reply, or more than we will hold."""


class ReplyReader:
    """Cuts a stream of bytes into replies. After NotSmtp the stream has no meaning any more."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._lines: list[bytes] = []
        self._code = b""
        self._size = 0  # of the reply so far

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
            line = self._buffer[self._at : end].rstrip(b"\r")
            length = end + 1 - self._at
            self._at = end + 1
            self._size += length
            if length > MAX_LINE:
                raise NotSmtp(f"a line of {length} octets")
            if self._size > MAX_REPLY:
                raise NotSmtp(f"a reply of more than {MAX_REPLY} octets")
            if self._take_line(line):
                return self._finish()
        if len(self._buffer) - self._at >= MAX_LINE:
            raise NotSmtp(f"a line of more than {MAX_LINE} octets")
        return None

    def _take_line(self, line: bytes) -> bool:
        """Keep one line; True when it was the last of its reply."""
        match = _LINE.fullmatch(line)
        if match is None:
            raise NotSmtp(f"{_printable(line[:60])!r}, which is not SMTP,")
        code, separator, text = match.groups()
        if self._lines and code != self._code:
            raise NotSmtp(f"a reply that begins with {self._code.decode()} and goes on with {code.decode()}")
        self._code = code
        self._lines.append(text or b"")
        return separator != b"-"

    def _finish(self) -> Reply:
        texts = [_printable(line) for line in self._lines]
        match = _ENHANCED.match(texts[0])
        enhanced = match[1] if match else ""
        if enhanced:
            # Multi-line replies repeat the code on each line (RFC 2034 section 4).
            texts = [_without(enhanced, text) for text in texts]
        reply = Reply(int(self._code), enhanced, tuple(texts))
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
