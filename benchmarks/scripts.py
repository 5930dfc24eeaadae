"""``python -m benchmarks.scripts``: the script that people write instead of running an MTA.

aiosmtplib over connections that are kept, `email.message` for the message, and for the
signature either dkimpy or a few lines around cryptography. It remembers nothing: when it
is interrupted, nobody knows who has had the mail. It says `ready`, waits for a line on
its standard input, sends, and prints its figures.
"""

import argparse
import asyncio
import base64
import email
import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import aiosmtplib
import dkim
import msgspec
import uvloop
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from benchmarks.mails import Mail, read_mails

SIGNERS = ("dkimpy", "cryptography")

# What scripts commonly sign.
_SIGNED = (b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type", b"list-unsubscribe")

Sign = Callable[[bytes], bytes]  # a message with CRLF → its DKIM-Signature field


class Letter(msgspec.Struct, frozen=True):
    """What a script knows of one mail before it builds the message."""

    sender: str
    recipient: str
    fields: Sequence[tuple[str, str]]
    text: str
    html: str


class Scripted(msgspec.Struct, frozen=True):
    """`began` and `ended` on the machine's monotonic clock, which all processes share; `cpu` in seconds."""

    messages: int
    began: float
    ended: float
    cpu: float


def main() -> None:
    """Take the command line, send this process' share, print Scripted as JSON; exit 1 at the first error."""
    parser = argparse.ArgumentParser(prog="benchmarks.scripts", description=(__doc__ or "").partition("\n")[2])
    parser.add_argument("signer", choices=SIGNERS)
    parser.add_argument("--mails", type=Path, required=True, metavar="FILE", help="as benchmarks.mails writes them")
    parser.add_argument("--most", type=int, required=True, help="only the first so many, over all processes")
    parser.add_argument("--share", type=int, nargs=2, default=(0, 1), metavar=("N", "OF"), help="this process' part")
    parser.add_argument("--port", type=int, required=True, help="of the server on 127.0.0.1")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--key", type=Path, required=True, metavar="PEM")
    parser.add_argument("--selector", required=True)
    parser.add_argument("--domain", required=True)
    asked = parser.parse_args()
    letters = [_letter(mail) for mail in read_mails(asked.mails)[: asked.most][asked.share[0] :: asked.share[1]]]
    make = _with_dkimpy if asked.signer == "dkimpy" else _with_cryptography
    sign = make(asked.key.read_bytes(), asked.selector, asked.domain)
    print("ready", flush=True)
    sys.stdin.readline()
    used, began = time.process_time(), time.monotonic()
    try:
        uvloop.run(_send_all(letters, sign, asked.port, asked.connections))
    except* (aiosmtplib.SMTPException, OSError) as errors:
        sys.exit(f"benchmarks.scripts: {errors.exceptions[0]}")
    report = Scripted(len(letters), began, time.monotonic(), time.process_time() - used)
    print(msgspec.json.encode(report).decode())


def _letter(mail: Mail) -> Letter:
    """Take a mail apart, so that the script can build it again from the same values."""
    message = email.message_from_bytes(mail.message, policy=SMTP)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    mime = ("mime-version", "content-type", "content-transfer-encoding")
    fields = [(name, str(value)) for name, value in message.items() if name.lower() not in mime]
    return Letter(mail.sender, mail.recipient, fields, text.get_content(), html.get_content())


async def _send_all(letters: Sequence[Letter], sign: Sign, port: int, connections: int) -> None:
    waiting = iter(letters)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(connections, len(letters))):
            group.create_task(_connection(waiting, sign, port))


async def _connection(waiting: Iterator[Letter], sign: Sign, port: int) -> None:
    """One connection that takes the next letter as soon as it is free."""
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False) as smtp:
        for letter in waiting:
            raw = _message(letter).as_bytes()
            await smtp.sendmail(letter.sender, [letter.recipient], sign(raw) + raw)


def _message(letter: Letter) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    for name, value in letter.fields:
        message[name] = value
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    return message


def _with_dkimpy(key: bytes, selector: str, domain: str) -> Sign:
    """The signer of dkimpy as its documentation shows it; it reads the key anew for each message."""

    def sign(raw: bytes) -> bytes:
        field: bytes = dkim.sign(
            raw, selector.encode(), domain.encode(), key,
            canonicalize=(b"relaxed", b"relaxed"), include_headers=list(_SIGNED),
        )  # fmt: skip
        return field

    return sign


def _with_cryptography(key: bytes, selector: str, domain: str) -> Sign:
    """RFC 6376 by hand, relaxed/relaxed; the key is read once."""
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, rsa.RSAPrivateKey)

    def sign(raw: bytes) -> bytes:
        head, _, body = raw.partition(b"\r\n\r\n")
        body = re.sub(rb"[ \t]+\r\n", b"\r\n", re.sub(rb"[ \t]+", b" ", body)).rstrip(b"\r\n") + b"\r\n"
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        found = {name.lower(): value for name, value in re.findall(rb"(?m)^([^:\s]+):((?:.*\r?\n?[ \t])*.*)", head)}
        names = [name for name in _SIGNED if name in found]
        unfinished = (
            f"v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s={selector}; "
            f"h={b':'.join(names).decode()}; bh={digest}; b="
        ).encode()
        canonical = b"".join(name + b":" + _relaxed(found[name]) + b"\r\n" for name in names)
        canonical += b"dkim-signature:" + _relaxed(unfinished)
        signature = base64.b64encode(private.sign(canonical, padding.PKCS1v15(), hashes.SHA256()))
        folded = b"\r\n ".join(re.findall(rb".{1,72}", signature))
        return b"DKIM-Signature: " + unfinished.replace(b"; ", b";\r\n ") + folded + b"\r\n"

    return sign


def _relaxed(value: bytes) -> bytes:
    return re.sub(rb"\s+", b" ", value).strip()


if __name__ == "__main__":
    main()
