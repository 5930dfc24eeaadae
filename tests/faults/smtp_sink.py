"""Postfix's smtp-sink as a process on loopback, with what it took."""

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.sinks import smtp_sink_program


@asynccontextmanager
async def smtp_sink(port: int, folder: Path, *options: str) -> AsyncIterator[None]:
    """It listens on 127.0.0.1 inside the block, and writes what it reads to `folder`, a file a message."""
    await asyncio.to_thread(_make, folder)
    # It refuses to run as root.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        smtp_sink_program(), *user, *options, "-d", str(folder / "mail."), f"inet:127.0.0.1:{port}", "100",
        stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await _listens(port)
        yield
    finally:
        process.terminate()
        await process.wait()


def _make(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


async def _listens(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        await writer.wait_closed()
        return


def copies(folder: Path) -> Counter[str]:
    """How many messages it read to their end, by recipient; whatever it answered then."""
    whole = [text for path in folder.glob("mail.*") if (text := path.read_text()).endswith("hello\n\n")]
    return Counter(re.findall(r"^X-Rcpt-Args: <(.*)>$", "\n".join(whole), re.MULTILINE))
