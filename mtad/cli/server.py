"""init, check, migrate, run: the life of an installation."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from mtad.base.config import Config, load_config
from mtad.base.db import open_pool
from mtad.base.errors import InputError, Problem
from mtad.base.log import set_up_logging
from mtad.base.migrate import migrate as migrate_schema
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption, database, print_json
from mtad.ops.check import Finding, Level, check_all
from mtad.ops.daemon import ROLES, run_daemon
from mtad.ops.install import KEYS, install
from mtad.ops.postgres import Postgres

app = typer.Typer()


@app.command()
def init(
    *,
    domain: Annotated[str, typer.Option("--domain", help="The organisation's domain, e.g. example.com.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where to write; made when it is not there.")] = Path(),
    dkim: Annotated[str, typer.Option("--dkim", help=f"Keys that sign: {', '.join(KEYS)}.")] = "rsa2048",
    as_json: JsonOption = False,
) -> None:
    """Write mtad.toml and keys into a folder; print the DNS records to publish."""
    if dkim not in KEYS:
        raise InputError(f"--dkim: {dkim!r} is none of {', '.join(KEYS)}")
    made = install(folder, domain, selector=f"m{datetime.now(UTC):%Y%m}", dkim=dkim)
    if as_json:
        print_json({"files": [str(path) for path in made.files], "records": made.records, "reminder": made.reminder})
        return
    for path in made.files:
        print(f"wrote {path}")
    print("\nPublish in DNS:\n")
    for record in made.records:
        print(f"; {record.why}\n{record.zone_line()}")
    print(f"\n{made.reminder}\nBack up {folder / 'keys'}. Then: mtad check -c {made.config}")


@app.command()
def check(*, config_path: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Say what is wrong with configuration, keys, DNS, database and ports, and how to mend it."""
    config = load_config(config_path)
    findings = _findings(config)
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            mend = f" — {finding.mend}" if finding.mend else ""
            print(f"{finding.level:8}{finding.about}: {finding.text}{mend}")
    if any(finding.level is Level.BAD for finding in findings):
        raise typer.Exit(1)


@app.command()
def migrate(*, config_path: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Bring the database to the schema of this program."""
    with database(load_config(config_path)) as url:
        applied = asyncio.run(_migrate(url))
    if as_json:
        print_json({"applied": applied})
    else:
        print(f"schema {applied[-1]}: applied" if applied else "the schema is the newest; nothing to apply")


@app.command()
def run(
    *,
    config_path: ConfigOption = DEFAULT_CONFIG,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes; 0: as configured.")] = 0,
    roles: Annotated[str, typer.Option("--roles", help=f"What each does, of {','.join(ROLES)}.")] = ",".join(ROLES),
) -> None:
    """Run the server until SIGTERM: a supervisor and a worker a core."""
    config = load_config(config_path)
    wanted = roles.split(",")
    if unknown := [role for role in wanted if role not in ROLES]:
        raise InputError(f"--roles: {unknown[0]!r} is none of {', '.join(ROLES)}")
    set_up_logging(config.log_format)
    sys.exit(run_daemon(config, config_path.resolve(), workers=workers, roles=wanted))


def _findings(config: Config) -> list[Finding]:
    embedded = config.database.url == "embedded"
    if embedded and not Postgres(config.state / "postgres").data.exists():
        return asyncio.run(check_all(config, database=None))
    try:
        with database(config) as url:
            return asyncio.run(check_all(config, database=url))
    except Problem as problem:
        rest = asyncio.run(check_all(config, database=None))
        broken = Finding(Level.BAD, "database", str(problem), "see its log in the state folder")
        return [finding for finding in rest if finding.about != "database"] + [broken]


async def _migrate(url: str) -> list[int]:
    pool = await open_pool(url, most=1, name="mtad migrate")
    try:
        return await migrate_schema(pool)
    finally:
        await pool.close()
