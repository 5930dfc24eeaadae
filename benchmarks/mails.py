"""Mails as a file that several programs read: what mtad sent over the wire, without its signature."""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

# A field with its folded lines.
_SIGNATURE = re.compile(rb"^DKIM-Signature:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", re.MULTILINE | re.IGNORECASE)


class Mail(msgspec.Struct, frozen=True, array_like=True):
    """One message to one recipient; CRLF, dots unstuffed."""

    sender: str
    recipient: str
    message: bytes


def unsigned(message: bytes) -> bytes:
    """The message without any DKIM-Signature in its head."""
    head, blank, body = message.partition(b"\r\n\r\n")
    return _SIGNATURE.sub(b"", head + b"\r\n").removesuffix(b"\r\n") + blank + body


def write_mails(path: Path, mails: Sequence[Mail]) -> None:
    """All of them into one file."""
    path.write_bytes(msgspec.msgpack.encode(mails))


def read_mails(path: Path) -> list[Mail]:
    """What write_mails wrote, in its order."""
    return msgspec.msgpack.decode(path.read_bytes(), type=list[Mail])
