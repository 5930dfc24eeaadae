"""One worker process: ``python -m mtad.worker``, started by the supervisor of `mtad run`."""

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import uvloop

from mtad.app import Place, run_worker
from mtad.base.config import Config, load_config
from mtad.base.errors import Problem
from mtad.base.log import set_up_logging
from mtad.ops.daemon import ROLES
from mtad.ops.parent import DATABASE_VARIABLE, parent_gone, report_ready
from mtad.ops.postgres import Postgres


def main() -> None:
    """Run until SIGTERM or until the supervisor is gone; a Problem is one line and its exit code."""
    parser = argparse.ArgumentParser(prog="mtad.worker")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--roles", default=",".join(ROLES))
    parser.add_argument("--tracker-fd", type=int, action="append", default=[])
    parser.add_argument("--parent-fd", type=int, required=True)
    arguments = parser.parse_args()
    try:
        config = load_config(arguments.config)
        set_up_logging(config.log_format, slot=arguments.slot)
        sockets = [socket.socket(fileno=fd) for fd in arguments.tracker_fd]
        place = Place(arguments.slot, os.environ[DATABASE_VARIABLE], sockets, arguments.roles.split(","))
        # What start-up made lives as long as the process; collecting it again and again is wasted.
        gc.collect()
        gc.freeze()
        # What mails are made of refers to nothing that refers to it; looking every 700 objects cost 3.4 µs a mail.
        gc.set_threshold(20_000)
        # With the supervisor killed, the last worker to leave stops the embedded database. To start it is the
        # supervisor's: recipients need not wait for it.
        embedded = config.database.url == "embedded"
        with Postgres(config.state / "postgres").shared() if embedded else contextlib.nullcontext():
            uvloop.run(_run(config, place, arguments.parent_fd))
    except* Problem as group:
        problem = next(iter(leaves(group)))
        sys.stderr.write(f"mtad worker {arguments.slot}: {problem}\n")
        sys.exit(problem.exit_code)


def leaves(group: BaseExceptionGroup[Problem]) -> Iterator[Problem]:
    """The problems in a group of groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


async def _run(config: Config, place: Place, parent_fd: int) -> None:
    """Work until asked to stop; a supervisor that is gone asks, too."""
    watch = asyncio.create_task(_stop_with_parent(parent_fd))
    try:
        await run_worker(config, place, ready=partial(report_ready, parent_fd))
    finally:
        watch.cancel()


async def _stop_with_parent(fd: int) -> None:
    await parent_gone(fd)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
