"""What every command shares: configuration, database, errors, output.

A command is ``arguments → shell.run(config, work) → show``. Errors are one line on
stderr and the exit code of their class; a traceback only with ``--debug``.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
import uvloop
from rich.console import Console, RenderableType
from rich.text import Text

from mtad.base.config import Config, load_config
from mtad.base.db import DATABASE_AWAY, Connection, Pool, open_pool
from mtad.base.errors import InputError, Problem, Unavailable
from mtad.base.migrate import require_schema
from mtad.ops.postgres import Postgres

T = TypeVar("T")

ConfigOption = Annotated[Path, typer.Option("--config", "-c", envvar="MTAD_CONFIG", help="The configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DEFAULT_CONFIG = Path("mtad.toml")

# Columns where there is no terminal to have any: mail and log files scroll sideways.
WIDE = 200

out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE)
err = Console(stderr=True)


@contextlib.contextmanager
def database(config: Config) -> Iterator[str]:
    """The URL of the database; the embedded server runs while somebody uses it."""
    if config.database.url != "embedded":
        yield config.database.url
        return
    with Postgres(config.state / "postgres").using() as url:
        yield url


def run(config_path: Path, work: Callable[[Config, Pool], Awaitable[T]]) -> T:
    """Do `work` with the configuration and a pool on a database of the right schema.

    Unavailable when the database goes away meanwhile: what was not committed is undone.
    """
    config = load_config(config_path)

    async def inside(url: str) -> T:
        pool = await open_pool(url, most=4, name="mtad command")
        try:
            await require_schema(pool)
            return await work(config, pool)
        except DATABASE_AWAY as error:
            raise Unavailable(f"the database went away: {str(error) or type(error).__name__}") from error
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pool.close(), 5)

    with database(config) as url:
        return uvloop.run(inside(url))


def ask(config_path: Path, question: Callable[[Connection], Awaitable[T]]) -> T:
    """Like `run`, for what one connection answers."""

    async def work(_: Config, pool: Pool) -> T:
        async with pool.acquire() as conn:
            return await question(conn)

    return run(config_path, work)


def asks() -> bool:
    """Somebody is there to answer a question."""
    return sys.stdin.isatty() and out.is_terminal


async def confirm(what: str, *, yes: bool) -> None:
    """Ask whether to do what cannot be undone, unless `yes`; Problem on a no, InputError where nobody can answer."""
    if yes:
        return
    if not asks():
        raise InputError(f"to {what} say --yes, there is nobody to ask")
    if not await asyncio.to_thread(typer.confirm, f"Really {what}?", err=True):
        raise Problem("nothing was changed")


def count(number: int, one: str, many: str = "") -> str:
    """'1 mail', '2,000 mails'; `many` where that is not one with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def write_text(path: Path, text: str) -> None:
    """Write a file that the command line names; InputError when that cannot be done."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def show(found: T, view: Callable[[T], RenderableType], *, nothing: str = "", as_json: bool) -> None:
    """As JSON for programs, as `view` draws it for people; where nothing was found they read `nothing`, if given."""
    if as_json:
        print_json(found)
    else:
        out.print(view(found) if found or not nothing else Text(nothing))


def print_json(value: object) -> None:
    """One JSON document on stdout. Structs, dates and enums are written as msgspec does."""
    sys.stdout.write(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False) + "\n")
