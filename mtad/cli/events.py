"""`mtad events reclassify`: verdicts on hits, recomputed."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from engine.service import retell, told_until
from mtad.base.config import Config, seconds
from mtad.base.db import Pool
from mtad.base.errors import InputError
from mtad.cli import shell
from mtad.ops.keyfiles import read_networks
from tracker.service import Reclassified, reclassify

app = typer.Typer(help="What recipients did.", no_args_is_help=True)

# What is younger may not have been judged for the first time.
SETTLED = timedelta(minutes=5)


@app.callback()
def _group() -> None:
    """What recipients did."""


@app.command("reclassify")
def reclassify_(
    *,
    since: Annotated[
        str, typer.Option(help="How far back, such as 30d; all hits that are kept whole unless given.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would change, and change nothing.")] = False,
    as_json: shell.JsonOption = False,
    config: shell.ConfigOption = shell.DEFAULT_CONFIG,
) -> None:
    """Judge hits again, after a changed file of networks or a newer list of agents; scores and states follow."""
    now = datetime.now(UTC)
    try:
        back = timedelta(seconds=seconds(since)) if since else None
    except ValueError as error:
        raise InputError(f"--since: {error}") from None

    async def work(config: Config, pool: Pool) -> Reclassified:
        begin = now - (back if back is not None else config.privacy.terms["hits"])
        networks = read_networks(config)
        return await reclassify(pool, networks, retell, told_until, since=begin, until=now - SETTLED, dry_run=dry_run)

    done = shell.run(config, work)
    if as_json:
        shell.print_json(done)
        return
    what = "would change" if dry_run else "changed"
    shell.out.print(
        f"{done.hits:,} hits, {sum(done.changed.values()):,} {what}; agents as of {done.agents_of}", highlight=False
    )
    for change, count in done.changed.items():
        shell.out.print(f"{count:>10,}  {change}", highlight=False)
    if done.too_old:
        shell.out.print(f"{done.too_old:>10,}  of these are too old to change scores and states", highlight=False)
