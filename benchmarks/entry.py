"""How a benchmark begins and ends: within its limit, in one line, with a JSON file when one is wanted."""

import argparse
import asyncio
import os
import platform
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mtad.base.errors import Problem

Report = TypeVar("Report", bound=msgspec.Struct)


def command_line(name: str, doc: str, *, limit: float) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes: --seed, --limit, --json; `doc` is that of its module."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.{name}", description=doc.partition("\n")[2])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=limit, help="seconds until it is given up")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def finish(
    name: str,
    work: Coroutine[Any, Any, Report],
    *,
    limit: float,
    json: Path | None,
    line: Callable[[Report], str],
    good: Callable[[Report], bool],
) -> None:
    """Run `work`, print its line, write its JSON, exit: 0, 1 when it is not `good`, a Problem's code with its line."""
    try:
        report = asyncio.run(_limited(work, limit))
        if json:
            json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
        print(line(report))
        sys.exit(0 if good(report) else 1)
    except Problem as problem:
        sys.stderr.write(f"benchmarks.{name}: {problem}\n")
        sys.exit(problem.exit_code)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write(f"benchmarks.{name}: stopped\n")
        sys.exit(130)


def machine(postgres: str) -> dict[str, str | int]:
    """What the figures were taken on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "postgres": postgres,
    }


async def _limited(work: Coroutine[Any, Any, Report], limit: float) -> Report:
    """The whole run within the limit; SIGTERM cancels it, and everything that was started is stopped."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async with asyncio.timeout(limit):
            return await work
    except TimeoutError:
        raise Problem(f"--limit: not done after {limit:g} s") from None
