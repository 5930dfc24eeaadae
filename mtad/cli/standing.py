"""`mtad limits|orders`: what goes on for a while; --undo ends it."""

import getpass
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from mtad.base.db import Connection, in_transaction
from mtad.base.errors import InputError
from mtad.cli import shell
from mtad.cli.queue import limits_table, orders_table
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.ops import standing
from mtad.ops.standing import Order
from mtad.queue import limits
from mtad.queue.limits import LaneLimit

app = typer.Typer()

Row = TypeVar("Row", LaneLimit, Order)

UndoOption = Annotated[list[int] | None, typer.Option("--undo", help="End this one; may be said again.")]


@app.command("limits")
def limits_(config: ConfigOption = DEFAULT_CONFIG, *, undo: UndoOption = None, as_json: JsonOption = False) -> None:
    """Limits of lanes that rules on replies have set for a while; --undo takes them back."""
    found = _rows(config, "limit", limits.limits, limits.undo, undo or [])
    if undo and not as_json:
        shell.out.print(f"{len(found):,} limits taken back.")
    else:
        shell.show(found, limits_table, nothing="No limit is set for a while.", as_json=as_json)


@app.command("orders")
def orders_(config: ConfigOption = DEFAULT_CONFIG, *, undo: UndoOption = None, as_json: JsonOption = False) -> None:
    """Purges and rebinds that go on (--for); --undo ends them, what they did stays done."""

    async def end(conn: Connection, ids: Sequence[int]) -> None:
        await standing.end(conn, ids=ids, by=getpass.getuser())

    found = _rows(config, "order", standing.orders, end, undo or [])
    if undo and not as_json:
        shell.out.print(f"{len(found):,} ended.")
    else:
        shell.show(found, orders_table, nothing="No purge and no rebind goes on.", as_json=as_json)


def _rows(
    config: Path,
    what: str,
    rows: Callable[[Connection], Awaitable[list[Row]]],
    end: Callable[[Connection, Sequence[int]], Awaitable[object]],
    undo: Sequence[int],
) -> list[Row]:
    """All of them; those to `undo`, if any, which are ended. InputError when one is not there."""

    async def work(conn: Connection) -> list[Row]:
        there = await rows(conn)
        if not undo:
            return there
        if missing := sorted(set(undo) - {row.id for row in there}):
            raise InputError(f"--undo {missing[0]}: there is no such {what}; `mtad {what}s` lists them")
        await end(conn, undo)
        return [row for row in there if row.id in undo]

    return shell.run(config, lambda _, pool: in_transaction(pool, work))
