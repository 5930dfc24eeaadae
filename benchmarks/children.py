"""Programs that load what they need, say `ready`, wait for a line, work, and print one line of JSON."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence

from mtad.base.errors import Problem


class Children:
    """Processes that wait for the word."""

    def __init__(self, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self._processes = processes

    async def work(self) -> list[bytes]:
        """Let all go at once, and return what each printed at its end; Problem with the words of one that failed."""
        outputs = await asyncio.gather(*(process.communicate(b"\n") for process in self._processes))
        for process, (_, stderr) in zip(self._processes, outputs, strict=True):
            if process.returncode:
                raise Problem(_last_line(stderr) or f"exit {process.returncode}")
        return [stdout for stdout, _ in outputs]


@contextlib.asynccontextmanager
async def prepared(modules: Sequence[Sequence[str]]) -> AsyncIterator[Children]:
    """Modules of Python with their arguments, each a process that is ready inside the block and gone after it."""
    processes: list[asyncio.subprocess.Process] = []
    try:
        for module in modules:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *module,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us
            )  # fmt: skip
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            assert process.stderr is not None
            if await process.stdout.readline() != b"ready\n":
                raise Problem(_last_line(await process.stderr.read()) or "a process ended before it was ready")
        yield Children(processes)
    finally:
        for process in processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _last_line(stderr: bytes) -> str:
    return (stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
