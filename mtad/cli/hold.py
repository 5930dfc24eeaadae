"""`mtad suspend|resume|suspensions|limits|purge|rebind`: hold mail back, let it go, take it out, send it elsewhere."""

import getpass
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn

from mtad.base.config import Config, seconds
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import InputError, Problem
from mtad.cli import shell
from mtad.cli.queue import limits_table, suspensions_table
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.ops.answers.programs import program_by_name
from mtad.ops.answers.times import local
from mtad.ops.waiting import (
    Done,
    Selection,
    domain_name,
    lane_names,
    purge,
    rebind,
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
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
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
    named = _kind(kind)
    length = _length(within)

    async def work(loaded: Config, pool: Pool) -> Suspension:
        async def hold(conn: Connection) -> Suspension:
            name = await _name(conn, named, key)
            if named in ("source", "lane"):
                await require_source(conn, loaded, name.partition("/")[0])
            until: datetime | None = None
            if length is not None:
                until = await conn.fetchval("select now() + $1", timedelta(seconds=length))
            return await suspensions.suspend(conn, named, name, until=until, reason=why, by=getpass.getuser())

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
    """Undo every suspension of a site, domain, lane, source or program; what waited goes on at once."""
    named = _kind(kind)

    async def work(loaded: Config, pool: Pool) -> list[Suspension]:
        async def undo(conn: Connection) -> list[Suspension]:
            name = await _name(conn, named, key)
            return await suspensions.lift(conn, kind=named, key=name, by=getpass.getuser())

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


@app.command("purge")
def purge_(
    kind: KindArgument,
    key: KeyArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    why: WhyOption = "by hand",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take the waiting mail of a site, domain … out of the queue for good, into the ledger. Suspend it first.

    Of a source or a lane: the mail that no other source can send.
    """
    named = _kind(kind)

    async def work(loaded: Config, pool: Pool) -> int:
        chosen = await _selected(pool, loaded, named, key)
        _confirm(f"purge the waiting mail of {kind} {key}", yes=yes)
        return await _watched("purging", purge(pool, chosen, f"{why} ({getpass.getuser()})"))

    changed = shell.run(config, work)
    if as_json:
        shell.print_json({"kind": kind, "key": key, "purged": changed})
    else:
        shell.out.print(f"{_mails(changed)} purged.", highlight=False)


@app.command("rebind")
def rebind_(
    kind: KindArgument,
    key: KeyArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    to: Annotated[str, typer.Option("--to", help="The site that its waiting mail goes to instead.")],
    now: Annotated[bool, typer.Option("--now", help="At once also what waits after a refusal.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send the waiting mail of a site, domain … to another site. Later mail goes where its domain or a route says.

    Of a source or a lane: the mail that no other source can send.
    """
    named = _kind(kind)

    async def work(loaded: Config, pool: Pool) -> tuple[int, str]:
        chosen = await _selected(pool, loaded, named, key)
        async with pool.acquire() as conn:
            site, name = await site_by_name(conn, to)
        _confirm(f"send the waiting mail of {kind} {key} to {name}", yes=yes)
        return await _watched("rebinding", rebind(pool, chosen, site, at_once=now)), name

    changed, name = shell.run(config, work)
    if as_json:
        shell.print_json({"kind": kind, "key": key, "to": name, "rebound": changed})
    else:
        go = "goes" if changed == 1 else "go"
        shell.out.print(f"{_mails(changed)} {go} to {name} now.", markup=False, highlight=False, soft_wrap=True)


def _kind(text: str) -> Kind:
    match text:
        case "lane" | "site" | "domain" | "source" | "campaign":
            return text
    raise InputError(f"{text!r} is none of {', '.join(KINDS)}")


def _length(text: str) -> float | None:
    try:
        return seconds(text) if text else None
    except ValueError as error:
        raise InputError(f"--for: {error}") from None


async def _name(conn: Connection, kind: Kind, key: str) -> str:
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


async def _selected(pool: Pool, config: Config, kind: Kind, key: str) -> Selection:
    async with pool.acquire() as conn:
        return await selection(conn, config, kind, key)


def _confirm(what: str, *, yes: bool) -> None:
    if yes:
        return
    if not shell.out.is_terminal:
        raise InputError(f"to {what} say --yes, there is nobody to ask")
    if not typer.confirm(f"Really {what}?", err=True):
        raise Problem("nothing was changed")


def _mails(number: int) -> str:
    return "1 mail" if number == 1 else f"{number:,} mails"


async def _watched(what: str, steps: AsyncIterator[Done]) -> int:
    """How many jobs were changed at the end; a bar on a terminal meanwhile."""
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.fields[changed]:,} mails"))
    changed = 0
    with Progress(*columns, console=shell.err, transient=True, disable=not shell.err.is_terminal) as bar:
        task = bar.add_task("", total=None, changed=0)
        async for done in steps:
            changed = done.changed
            bar.update(task, completed=done.passed, total=done.total, changed=changed)
    return changed
