"""What we say, as bytes: commands (RFC 5321 section 4.1) and the message (section 4.5.2). Pure.

Nothing that a contact's data or a template holds can end a command or a message
early: whatever could is refused with ValueError, which is a defect of ours and
never something to send in another spelling.
"""

import base64
import re

# C0, DEL, C1, the Unicode line separators, and what ends or splits an argument.
# One of these in an address is how commands are smuggled in.
_FORBIDDEN = re.compile("[\x00-\x20\x7f-\xa0\u2028\u2029<>]")

DATA = b"DATA\r\n"
RSET = b"RSET\r\n"
QUIT = b"QUIT\r\n"
STARTTLS = b"STARTTLS\r\n"
END_OF_DATA = b".\r\n"


def ehlo(hostname: str) -> bytes:
    return b"EHLO %b\r\n" % _argument(hostname)


def helo(hostname: str) -> bytes:
    return b"HELO %b\r\n" % _argument(hostname)


def auth_plain(username: str, password: str) -> bytes:
    """RFC 4616, with the initial response of RFC 4954 section 4."""
    if "\0" in username + password:
        raise ValueError("a name or password cannot hold NUL")
    return b"AUTH PLAIN %b\r\n" % base64.b64encode(f"\0{username}\0{password}".encode())


def mail(return_path: str, *, size: int | None, eight_bit: bool, utf8: bool) -> bytes:
    """MAIL with the parameters of RFC 1870, 6152 and 6531; `size` None: not offered. "" is the null sender."""
    parameters = b"" if size is None else b" SIZE=%d" % size
    if eight_bit:
        parameters += b" BODY=8BITMIME"
    if utf8:
        parameters += b" SMTPUTF8"
    path = _argument(return_path) if return_path else b""
    return b"MAIL FROM:<%b>%b\r\n" % (path, parameters)


def rcpt(recipient: str) -> bytes:
    return b"RCPT TO:<%b>\r\n" % _argument(recipient)


def _argument(text: str) -> bytes:
    if not text or _FORBIDDEN.search(text):
        raise ValueError(f"{text!r} cannot stand in an SMTP command")
    return text.encode()


def bdat(size: int) -> bytes:
    """The command before a message of `size` octets that goes as one chunk, the last (RFC 3030 section 2)."""
    return b"BDAT %d LAST\r\n" % size


def chunk(message: bytes, safe_from: int | None = None) -> bytes:
    """The message as it goes behind BDAT: as it is, its last line ended. Refuses what `data` refuses.

    A server that hands it on with DATA would believe in a bare line end.
    """
    if not message:
        raise ValueError("an empty message")
    looked_at = message[:safe_from]
    # Each CR and each LF is part of a CRLF exactly when the text comes back so; replacing
    # single octets runs at memory speed, counting the pairs takes five times as long.
    if looked_at.replace(b"\r", b"").replace(b"\n", b"\r\n") != looked_at:
        raise ValueError("the message holds a bare CR or LF")
    if b"\0" in looked_at:
        raise ValueError("the message holds NUL")
    return message if message.endswith(b"\r\n") else message + b"\r\n"


def data(message: bytes, safe_from: int | None = None) -> bytes:
    """The message with its dots stuffed and the final dot; CRLF.CRLF occurs once, at the end.

    `message` has CRLF line ends only. ValueError when it is empty or holds a bare
    CR, a bare LF or NUL: servers disagree on where such a message ends. What stands from
    octet `safe_from` on, where a line begins, is known to be ASCII, to hold none of these,
    and no line that begins with a dot (compose.mime.quoted): it is not looked at.
    """
    message = chunk(message, safe_from)
    looked_at = message[:safe_from]
    stuffed = looked_at.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    if len(stuffed) == len(looked_at):
        return message + END_OF_DATA
    return stuffed + message[len(looked_at) :] + END_OF_DATA
