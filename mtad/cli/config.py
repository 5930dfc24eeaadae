"""`mtad config explain`."""

import asyncio
import contextlib
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mtad.base.address import normal_domain
from mtad.base.clock import SystemClock
from mtad.base.config import Config, load_config
from mtad.base.db import open_pool
from mtad.base.errors import InputError, Problem
from mtad.base.migrate import require_schema
from mtad.base.source import sources_of
from mtad.cli import shell
from mtad.ops.answers.delivery import rate
from mtad.ops.explain import Explained, explain
from mtad.ops.locator import Locator
from mtad.ops.postgres import Postgres
from mtad.wire.resolver import Resolver

app = typer.Typer(help="What the configuration means.", no_args_is_help=True)


@app.command("explain")
def explain_(
    domain: Annotated[str, typer.Argument(help="A recipients' domain, e.g. gmail.com.")],
    *,
    source: Annotated[
        str, typer.Option("--source", help="What the mail leaves through. Default: the first that is configured.")
    ] = "",
    config: shell.ConfigOption = shell.DEFAULT_CONFIG,
    as_json: shell.JsonOption = False,
) -> None:
    """Print every limit in force for a domain's mail, and which table says so; needs no running server."""
    loaded = load_config(config)
    try:
        name = normal_domain(domain)
    except ValueError as error:
        raise InputError(str(error)) from None
    sources = [known.name for known in sources_of(loaded.source)]
    if source and source not in sources:
        raise InputError(f"--source: {source!r} is none of {', '.join(sources)}")
    explained = _explained(loaded, name, source or sources[0])
    if as_json:
        shell.print_json(explained)
    else:
        _show(explained)


def _explained(config: Config, domain: str, source: str) -> Explained:
    embedded = config.database.url == "embedded"
    if embedded and not Postgres(config.state / "postgres").data.exists():
        return asyncio.run(_ask(config, domain, source, None))
    try:
        with shell.database(config) as url:
            return asyncio.run(_ask(config, domain, source, url))
    except Problem as problem:
        shell.err.print(f"without the database: {problem}", markup=False, highlight=False)
        return asyncio.run(_ask(config, domain, source, None))


async def _ask(config: Config, domain: str, source: str, url: str | None) -> Explained:
    clock = SystemClock()
    locator = Locator.from_config(config, Resolver.from_config(config, clock), clock)
    if url is None:
        return await explain(config, domain, source, pool=None, locator=locator)
    pool = await open_pool(url, most=1, name="mtad config explain")
    try:
        await require_schema(pool)
        return await explain(config, domain, source, pool=pool, locator=locator)
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 5)


def _show(explained: Explained) -> None:
    say = shell.out.print
    say(f"domain   {explained.domain}", markup=False, highlight=False)
    say(f"site     {explained.site or 'unknown'} ({explained.found})", markup=False, highlight=False, soft_wrap=True)
    say(f"provider {explained.provider or 'none that we know'}", markup=False, highlight=False)
    say(f"source   {explained.source}", markup=False, highlight=False)
    most = explained.ceiling
    say(f"at most  {rate(most.per_second)} in a steady flow: {most.knob}\n", markup=False, highlight=False)
    table = Table(box=None)
    for heading in ("knob", "value", "from"):
        table.add_column(heading)
    for setting in explained.settings:
        table.add_row(setting.knob, escape(_in_words(setting.value)), escape(setting.origin))
    say(table)


def _in_words(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(value) or "none"
        case _:
            return str(value or "no limit")
