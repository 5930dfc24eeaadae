"""`mtad suspend|resume|suspensions`: hold mail back, let it go."""

import getpass
from typing import Annotated

import typer

from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import InputError
from mtad.cli import shell
from mtad.cli.queue import suspensions_table
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.cli.target import KeyArgument, KindArgument, WhyOption, end_of, kind_of, length_of, name_of
from mtad.ops import standing
from mtad.ops.answers.times import local
from mtad.ops.waiting import require_source, selection, wake
from mtad.queue import suspensions
from mtad.queue.suspensions import Suspension

app = typer.Typer()


@app.command("suspend")
def suspend(
    kind: KindArgument,
    key: KeyArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    within: Annotated[str, typer.Option("--for", help="How long: 90s, 15m, 2h, 3d. Without it: until resumed.")] = "",
    why: WhyOption = "by hand",
    as_json: JsonOption = False,
) -> None:
    """Begin no mail of a site, domain, lane, source or program from now on; it waits, and still grows old."""
    named = kind_of(kind)
    length = length_of(within)

    async def work(loaded: Config, pool: Pool) -> Suspension:
        async def hold(conn: Connection) -> Suspension:
            name = await name_of(conn, named, key)
            if named in ("source", "lane"):
                await require_source(conn, loaded, name.partition("/")[0])
            return await suspensions.suspend(conn, named, name, until=until, reason=why, by=getpass.getuser())

        until = await end_of(pool, length)
        return await in_transaction(pool, hold)

    made = shell.run(config, work)
    if as_json:
        shell.print_json(made)
    else:
        until = f"until {local(made.until)}" if made.until else "until it is resumed"
        shell.out.print(f"{made.kind} {made.key}: suspended {until}.", markup=False, highlight=False, soft_wrap=True)


@app.command("resume")
def resume(
    kind: KindArgument,
    key: KeyArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    as_json: JsonOption = False,
) -> None:
    """Undo every suspension of a site, domain, lane, source or program, that of a purge too; what waited goes on."""
    named = kind_of(kind)

    async def work(loaded: Config, pool: Pool) -> list[Suspension]:
        async def undo(conn: Connection) -> list[Suspension]:
            name = await name_of(conn, named, key)
            rows = await suspensions.lift(conn, kind=named, key=name, by=getpass.getuser())
            await standing.end(conn, held=[row.id for row in rows], by=getpass.getuser())
            return rows

        lifted = await in_transaction(pool, undo)
        if lifted and named in ("domain", "campaign"):
            # The gate has put off what was claimed; sites and lanes leave due times alone.
            async with pool.acquire() as conn:
                chosen = await selection(conn, loaded, named, lifted[0].key)
            async for _done in wake(pool, chosen):
                pass
        return lifted

    lifted = shell.run(config, work)
    if not lifted:
        raise InputError(f"{kind} {key!r} is not suspended; `mtad suspensions` lists what is")
    if as_json:
        shell.print_json(lifted)
        return
    for row in lifted:
        shell.out.print(
            f"{row.kind} {row.key}: resumed. It was suspended by {row.made_by}: {row.reason}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


@app.command("suspensions")
def list_(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """What is suspended now, by whom, until when and why."""
    found = shell.ask(config, suspensions.suspensions)
    shell.show(found, suspensions_table, nothing="Nothing is suspended.", as_json=as_json)
