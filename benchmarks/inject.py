"""``python -m benchmarks.inject``: hands mails to an SMTP server over parallel sessions, as fast as it takes them.

A client that costs the server's machine as little as one in Python can: bytes are made
up beforehand, the next envelope travels with the end of the message before (RFC 2920).
It says `ready`, waits for a line on its standard input, sends, and prints its figures.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvloop

from benchmarks.mails import Mail, read_mails


class Injected(msgspec.Struct, frozen=True):
    """`began` and `ended` on the machine's monotonic clock, which all processes share; `cpu` in seconds."""

    messages: int
    began: float
    ended: float
    cpu: float


def main() -> None:
    """Take the command line, send everything, print Injected as JSON; exit 1 at the first refusal."""
    parser = argparse.ArgumentParser(prog="benchmarks.inject", description=__doc__)
    parser.add_argument("--mails", type=Path, required=True, metavar="FILE", help="as benchmarks.mails writes them")
    parser.add_argument("--most", type=int, default=1_000_000, help="only the first so many")
    parser.add_argument("--port", type=int, required=True, help="of the server on 127.0.0.1")
    parser.add_argument("--sessions", type=int, required=True)
    asked = parser.parse_args()
    rendered = [_rendered(mail) for mail in read_mails(asked.mails)[: asked.most]]
    print("ready", flush=True)
    sys.stdin.readline()
    used, began = time.process_time(), time.monotonic()
    uvloop.run(_send_all(rendered, asked.port, asked.sessions))
    report = Injected(len(rendered), began, time.monotonic(), time.process_time() - used)
    print(msgspec.json.encode(report).decode())


def _rendered(mail: Mail) -> tuple[bytes, bytes]:
    """Envelope and message of one mail as they go over the wire."""
    envelope = f"MAIL FROM:<{mail.sender}>\r\nRCPT TO:<{mail.recipient}>\r\nDATA\r\n".encode()
    body = mail.message.replace(b"\r\n.", b"\r\n..")
    return envelope, body + (b".\r\n" if body.endswith(b"\r\n") else b"\r\n.\r\n")


async def _send_all(rendered: list[tuple[bytes, bytes]], port: int, sessions: int) -> None:
    """Each session takes the next mail as soon as it may."""
    mails = iter(rendered)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(sessions, len(rendered))):
            group.create_task(_session(mails, port))


async def _session(mails: Iterator[tuple[bytes, bytes]], port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _expect(reader, b"220")
    writer.write(b"EHLO benchmark.example\r\n")
    await _expect(reader, b"250")
    mail = next(mails, None)
    if mail is not None:
        writer.write(mail[0])
    while mail is not None:
        for code in (b"250", b"250", b"354"):
            await _expect(reader, code)
        following = next(mails, None)
        writer.write(mail[1] + (following[0] if following else b"QUIT\r\n"))
        await _expect(reader, b"250")
        mail = following
    writer.close()
    await writer.wait_closed()


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    line = await reader.readline()
    while line[3:4] == b"-":
        line = await reader.readline()
    if not line.startswith(code):
        sys.exit(f"expected {code.decode()}, got {line.decode(errors='replace').strip() or 'the end'}")


if __name__ == "__main__":
    main()
