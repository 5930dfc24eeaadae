"""`mtad suspend|resume|suspensions|limits`: hold mail back, let it go."""

import getpass
from datetime import datetime, timedelta
from typing import Annotated

import typer

from mtad.base.config import Config, seconds
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import InputError
from mtad.cli import shell
from mtad.cli.queue import limits_table, suspensions_table
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.ops import standing
from mtad.ops.answers.programs import program_by_name
from mtad.ops.answers.times import local
from mtad.ops.waiting import (
    domain_name,
    lane_names,
    require_source,
    selection,
    site_by_name,
    wake,
)
from mtad.queue import limits, suspensions
from mtad.queue.limits import LaneLimit
from mtad.queue.suspensions import KINDS, Kind, Suspension

app = typer.Typer()

KindArgument = Annotated[
    str, typer.Argument(metavar="|".join(KINDS), show_default=False, help="What kind of thing KEY names.")
]
KeyArgument = Annotated[
    str,
    typer.Argument(
        help="Its name: of a campaign the program's; of a site also a domain that goes there; of a lane SOURCE/SITE."
    ),
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason that is shown and kept.")]


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

    async def work(_: Config, pool: Pool) -> list[Suspension]:
        async with pool.acquire() as conn:
            return await suspensions.suspensions(conn)

    found = shell.run(config, work)
    if as_json:
        shell.print_json(found)
    elif found:
        shell.out.print(suspensions_table(found))
    else:
        shell.out.print("Nothing is suspended.")


@app.command("limits")
def limits_(
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    undo: Annotated[list[int] | None, typer.Option("--undo", help="Take this one back; may be said again.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Limits of lanes that rules on replies have set for a while; --undo takes them back."""
    asked = undo or []

    async def work(_: Config, pool: Pool) -> list[LaneLimit]:
        async def change(conn: Connection) -> list[LaneLimit]:
            there = await limits.limits(conn)
            if missing := sorted(set(asked) - {row.id for row in there}):
                raise InputError(f"--undo {missing[0]}: there is no such limit; `mtad limits` lists them")
            await limits.undo(conn, asked)
            return [row for row in there if row.id in asked] if asked else there

        return await in_transaction(pool, change)

    found = shell.run(config, work)
    if as_json:
        shell.print_json(found)
    elif asked:
        shell.out.print(f"{len(found):,} limits taken back.")
    elif found:
        shell.out.print(limits_table(found))
    else:
        shell.out.print("No limit is set for a while.")


def kind_of(text: str) -> Kind:
    """InputError when it is none."""
    match text:
        case "lane" | "site" | "domain" | "source" | "campaign":
            return text
    raise InputError(f"{text!r} is none of {', '.join(KINDS)}")


def length_of(text: str) -> float | None:
    """Seconds of --for, None without it; InputError."""
    try:
        return seconds(text) if text else None
    except ValueError as error:
        raise InputError(f"--for: {error}") from None


async def end_of(pool: Pool, length: float | None) -> datetime | None:
    """So many seconds from now, by the database's clock."""
    found: datetime | None = None
    if length is not None:
        async with pool.acquire() as conn:
            found = await conn.fetchval("select now() + $1", timedelta(seconds=length))
    return found


async def name_of(conn: Connection, kind: Kind, key: str) -> str:
    """The key under which suspensions are kept."""
    match kind:
        case "site":
            return (await site_by_name(conn, key))[1]
        case "lane":
            source, site = lane_names(key)
            return f"{source}/{(await site_by_name(conn, site))[1]}"
        case "campaign":
            return (await program_by_name(conn, key)).name
        case "domain":
            return domain_name(key)
        case _:
            return key
