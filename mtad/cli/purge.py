"""`mtad purge|rebind`: take mail out that waits, or send it elsewhere, once or for a while."""

import getpass
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn

from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.cli.target import KeyArgument, KindArgument, WhyOption, end_of, kind_of, length_of, name_of
from mtad.ops import standing
from mtad.ops.answers.times import local
from mtad.ops.waiting import Done, purge, rebind, selection, site_by_name

app = typer.Typer()

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ForOption = Annotated[str, typer.Option("--for", help="Go on so long with what arrives: 5m, 2h; see `mtad orders`.")]


@app.command("purge")
def purge_(
    kind: KindArgument,
    key: KeyArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    within: ForOption = "",
    why: WhyOption = "by hand",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take the waiting mail of a site, domain … out of the queue for good, into the ledger. Suspend it first.

    With --for it is suspended meanwhile, and what arrives is purged too. Of a source or a lane: the mail that no
    other source can send.
    """
    named, length, user = kind_of(kind), length_of(within), getpass.getuser()

    async def work(loaded: Config, pool: Pool) -> tuple[int, datetime | None]:
        async with pool.acquire() as conn:
            chosen = await selection(conn, loaded, named, key)
        await shell.confirm(f"purge the waiting mail of {kind} {key}", yes=yes)
        until = await end_of(pool, length)
        if until is None:
            return (await _watched("purging", purge(pool, chosen, f"{why} ({user})"))).changed, None

        async def order(conn: Connection) -> int:
            name = await name_of(conn, named, key)
            return await standing.order_purge(conn, named, name, until=until, why=why, by=user)

        # Before what waits is purged: broken off, it leaves nothing held that is not purged in the end.
        made = await in_transaction(pool, order)
        done = await _watched("purging", purge(pool, chosen, f"{why} ({user})"))
        async with pool.acquire() as conn:
            await standing.count(conn, made, done.changed)
        return done.changed, until

    changed, until = shell.run(config, work)
    if as_json:
        shell.print_json({"kind": kind, "key": key, "purged": changed, "until": until})
    else:
        shell.out.print(f"{shell.count(changed, 'mail')} purged{_going_on(until)}.", highlight=False)


@app.command("rebind")
def rebind_(
    kind: KindArgument,
    key: KeyArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    to: Annotated[str, typer.Option("--to", help="The site that its waiting mail goes to instead.")],
    now: Annotated[bool, typer.Option("--now", help="At once also what waits after a refusal.")] = False,
    within: ForOption = "",
    why: WhyOption = "by hand",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send the waiting mail of a site, domain … to another site. Later mail goes where its domain or a route says.

    With --for what arrives meanwhile, too. Of a source or a lane: the mail that no other source can send.
    """
    named, length, user = kind_of(kind), length_of(within), getpass.getuser()

    async def work(loaded: Config, pool: Pool) -> tuple[int, str, datetime | None]:
        async with pool.acquire() as conn:
            chosen = await selection(conn, loaded, named, key)
            site, name = await site_by_name(conn, to)
            its = await name_of(conn, named, key)
        await shell.confirm(f"send the waiting mail of {kind} {key} to {name}", yes=yes)
        done = await _watched("rebinding", rebind(pool, chosen, site, at_once=now))
        until = await end_of(pool, length)
        if until is not None:
            async with pool.acquire() as conn:
                await standing.order_rebind(
                    conn, named, its, site=site, at_once=now, until=until, why=why, by=user, done=done
                )
        return done.changed, name, until

    changed, name, until = shell.run(config, work)
    if as_json:
        shell.print_json({"kind": kind, "key": key, "to": name, "rebound": changed, "until": until})
    else:
        go = "goes" if changed == 1 else "go"
        said = f"{shell.count(changed, 'mail')} {go} to {name} now{_going_on(until)}."
        shell.out.print(said, markup=False, highlight=False, soft_wrap=True)


def _going_on(until: datetime | None) -> str:
    return f", and what arrives until {local(until)}" if until else ""


async def _watched(what: str, steps: AsyncIterator[Done]) -> Done:
    """How it ended; a bar on a terminal meanwhile."""
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.fields[changed]:,} mails"))
    done = Done(0, 0)
    with Progress(*columns, console=shell.err, transient=True, disable=not shell.err.is_terminal) as bar:
        task = bar.add_task("", total=None, changed=0)
        async for done in steps:
            bar.update(task, completed=done.passed, total=done.total, changed=done.changed)
    return done
