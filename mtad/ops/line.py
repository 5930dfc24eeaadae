"""The operator's line to each worker of this machine: a Unix socket, for whoever owns the state folder.

One request a connection, a line of JSON; the answer is lines of JSON:

    {"do": "figures"}                                → one line, what the worker is doing
    {"do": "trace", "hosts": [...], "domain": ""}    → lines of dialogues, until the asker closes

The socket is `workers/<slot>.sock` in the state folder, mode 0600 in a folder of mode 0700:
dialogues hold addresses. Nothing is done for it while nobody asks.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from mtad.wire.trace import Look, Trace

log = logging.getLogger("mtad.line")

FOLDER = "workers"

# A request is short; whoever sends more is no operator.
LONGEST_REQUEST = 16 * 1024

LONGEST_ANSWER = 1 << 20

LONGEST_ANSWER = 1 << 20

# An asker that says nothing, or does not read, is let go after so many seconds.
PATIENCE = 10.0


class Request(msgspec.Struct, frozen=True):
    """What an asker may want."""

    do: str
    hosts: tuple[str, ...] = ()  # "host:port"; none: all
    domain: str = ""  # of recipients; '': any


@contextlib.asynccontextmanager
async def answering(state: Path, slot: int, trace: Trace, figures: Callable[[], object]) -> AsyncIterator[None]:
    """Answer operators inside the block; mail is worth more than answers, so it goes on where that cannot be had."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # An asker that goes away in the middle is no trouble of ours.
        with contextlib.suppress(OSError, TimeoutError, ValueError, msgspec.MsgspecError), contextlib.closing(writer):
            async with asyncio.timeout(PATIENCE):
                asked = msgspec.json.decode(await reader.readline(), type=Request)
            if asked.do == "figures":
                await _say(writer, figures())
            elif asked.do == "trace":
                await _trace(reader, writer, trace, Look(frozenset(asked.hosts), asked.domain))

    with contextlib.ExitStack() as stack:
        tasks: set[asyncio.Task[None]] = set()

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(answer(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        try:
            listener = stack.enter_context(_listener(state / FOLDER, f"{slot}.sock"))
        except OSError as error:
            log.warning("operators cannot ask this worker", extra={"why": str(error)})
            yield
            return
        server = await asyncio.start_unix_server(serve, sock=listener, limit=LONGEST_REQUEST)
        try:
            yield
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _trace(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, trace: Trace, look: Look) -> None:
    with trace.looking(look) as room:
        if not room:
            await _say(writer, {"error": "too many look already"})
            return
        gone = asyncio.ensure_future(reader.read())
        try:
            while not gone.done():
                reading = asyncio.ensure_future(look.read())
                await asyncio.wait({gone, reading}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    return
                lines, dropped = reading.result()
                await _say(writer, *lines, *([{"dropped": dropped}] if dropped else []))
        finally:
            gone.cancel()


async def _say(writer: asyncio.StreamWriter, *answers: object) -> None:
    writer.writelines(msgspec.json.encode(answer) + b"\n" for answer in answers)
    async with asyncio.timeout(PATIENCE):
        await writer.drain()


async def ask(state: Path, request: Request) -> AsyncGenerator[tuple[int, dict[str, Any]], None]:
    """What the workers of this state folder answer, with the slot of each, until all have closed or none listens.

    Close it (contextlib.aclosing) to stop asking.
    """
    answers: asyncio.Queue[tuple[int, dict[str, Any]] | None] = asyncio.Queue(1000)

    async def one(slot: int, line: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(sock=line, limit=LONGEST_ANSWER)
            with contextlib.closing(writer), contextlib.suppress(OSError):
                writer.write(msgspec.json.encode(request) + b"\n")
                async for answer in reader:
                    await answers.put((slot, msgspec.json.decode(answer)))
        finally:
            await answers.put(None)

    running = [asyncio.ensure_future(one(slot, line)) for slot, line in _lines(state / FOLDER)]
    try:
        left = len(running)
        while left:
            answer = await answers.get()
            if answer is None:
                left -= 1
            else:
                yield answer
    finally:
        for task in running:
            task.cancel()
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:  # whoever waits for room to say that it is over
                answers.get_nowait()
        await asyncio.gather(*running, return_exceptions=True)


def _lines(folder: Path) -> Iterator[tuple[int, socket.socket]]:
    """Connections to the workers that listen; a worker that was killed leaves its socket behind."""
    for path in sorted(folder.glob("*.sock"), key=lambda path: int(path.stem)):
        line = socket.socket(socket.AF_UNIX)
        try:
            with _short(folder) as short:
                line.connect(f"{short}/{path.name}")
        except OSError:
            line.close()
            continue
        line.setblocking(False)
        yield int(path.stem), line


@contextlib.contextmanager
def _listener(folder: Path, name: str) -> Iterator[socket.socket]:
    """The socket, in the place of one that a dead worker left."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    path = folder / name
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, _short(folder) as short:
        listener.bind(f"{short}/{name}")
        path.chmod(0o600)
        listener.setblocking(False)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """The folder by a short name: the path of a Unix socket has at most 107 octets, a state folder may have more."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
