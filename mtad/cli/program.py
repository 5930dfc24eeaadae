"""`mtad program apply|list|preview|test`. Other files hang more commands into the same group."""

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, assert_never

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from mtad.base.clock import SystemClock
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.errors import Problem
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.compose import store
from mtad.compose.apply import apply_program
from mtad.compose.composer import Composed
from mtad.compose.preview import Rendered, rendered
from mtad.dkim.sign import NotCovered, Signer
from mtad.ops.answers.times import local
from mtad.smtp.results import Accepted, Lost, Refused, Result, TooLate
from mtad.wire.dns import Unresolved
from mtad.wire.egress import Unbound
from mtad.wire.resolver import NoMail, Resolver, routed_host
from mtad.wire.session import Dialer, Session

app = typer.Typer(help="What is sent: campaigns, series, reactivations.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The program.")]
AsOption = Annotated[str | None, typer.Option("--as", help="The contact whose values to use; default: a stand-in.")]

# A person waits for it; the receiving server has the usual time for its answers.
_DATA_BY_SECONDS = 60.0


class Tested(msgspec.Struct, frozen=True):
    """What a server said to one message."""

    step: str
    subject: str
    accepted: bool
    host: str
    reply: str


@app.command("apply")
def apply_(
    file: Annotated[Path, typer.Argument(help="The program's TOML file; its messages are folders beside it.")],
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    move: Annotated[
        bool, typer.Option("--move", help="Have those on their way, and mail that waits, go on in the new version.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a program, or a new version of one, for who enters from now on; the same file again changes nothing."""
    applied = shell.run(config, lambda _, pool: apply_program(pool, file, getpass.getuser(), move=move))
    if as_json:
        shell.print_json(applied)
        return
    moved = (
        f", {applied.people:,} people and {applied.mails:,} mails moved" if move and applied.did == "changed" else ""
    )
    shell.out.print(f"program {applied.name}: {applied.did}, version {applied.version}{moved}", highlight=False)


@app.command("list")
def list_(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Every program, the newest first."""

    async def work(_: Config, pool: Pool) -> list[store.ProgramRow]:
        async with pool.acquire() as conn:
            return await store.programs(conn)

    rows = shell.run(config, work)
    if as_json:
        shell.print_json(rows)
        return
    table = Table(box=None)
    for heading in ("program", "kind", "stream", "status", "version", "created", "why"):
        table.add_column(heading)
    for row in rows:
        made = local(row.created)
        table.add_row(row.name, row.kind, row.stream, row.status, str(row.version), made, escape(row.why or ""))
    shell.out.print(table)


@app.command()
def preview(
    name: Name,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    contact: AsOption = None,
    folder: Annotated[Path, typer.Option("--dir", help="Where to write the files.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Write each mail as NAME-STEP.html, .txt and .eml. Its links work and count for nobody."""
    mails = shell.run(config, lambda settings, pool: _rendered(settings, pool, name, contact, None))
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for mail in mails:
            for suffix, content in (("html", mail.html), ("txt", mail.txt), ("eml", mail.eml)):
                if content is not None:
                    path = folder / f"{name}-{mail.node}.{suffix}"
                    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
                    written.append(path)
    except OSError as error:
        raise Problem(f"{error.filename}: {error.strerror}") from None
    if as_json:
        shell.print_json({"files": [str(path) for path in written]})
    else:
        for path in written:
            print(path)


@app.command("test")
def send_test(
    name: Name,
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    to: Annotated[str, typer.Option("--to", help="The address that gets every mail of the program, now.")],
    contact: AsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send each mail once to an address of yours, for real; exit 1 when one is not taken."""

    async def work(settings: Config, pool: Pool) -> list[Tested]:
        mails = await _rendered(settings, pool, name, contact, to)
        return await _sent(settings, mails)

    results = shell.run(config, work)
    if as_json:
        shell.print_json(results)
    else:
        for result in results:
            verdict = "accepted" if result.accepted else "NOT ACCEPTED"
            print(f"{result.step}: {verdict} by {result.host or 'nobody'}: {result.reply}")
    if not all(result.accepted for result in results):
        raise typer.Exit(1)


async def _rendered(config: Config, pool: Pool, name: str, contact: str | None, to: str | None) -> list[Rendered]:
    signer = Signer.from_config(config)

    def sign(mail: Composed, stream: str, now: int) -> bytes:
        return signer.sign(
            mail.headers,
            mail.body,
            mail.from_domain,
            now,
            return_domain=mail.return_domain,
            stream=stream,
            bulk=mail.bulk,
        )

    try:
        return await rendered(pool, config, name, contact, to, sign=sign, now=datetime.now(UTC))
    except NotCovered as error:
        raise Problem(f"{name}: not signed, so not sent: {error}") from None


async def _sent(config: Config, mails: list[Rendered]) -> list[Tested]:
    """All mails over one session, as long as it lasts."""
    clock = SystemClock()
    resolver = Resolver.from_config(config, clock)
    dialer = Dialer(config.hostname, resolver, clock, routed=[routed_host(route) for route in config.route])
    domain = mails[0].composed.recipient.rpartition("@")[2]
    try:
        site = await resolver.site_of(domain, config)
    except Unresolved as error:
        raise Problem(f"{domain}: {error}") from None
    if isinstance(site, NoMail):
        raise Problem(site.why)
    results: list[Tested] = []
    session: Session | None = None
    try:
        for mail in mails:
            if session is None or not session.alive():
                opened = await dialer.open(site.hosts)
                if isinstance(opened, Unbound):
                    raise Problem(opened.why)
                if not isinstance(opened, Session):
                    results.append(_tested(mail, opened))
                    continue
                session = opened
            composed = mail.composed
            data_by = clock.monotonic() + _DATA_BY_SECONDS
            results.append(
                _tested(mail, await session.send(composed.return_path, composed.recipient, mail.eml, data_by=data_by))
            )
    finally:
        if session is not None:
            await session.close()
    return results


def _tested(mail: Rendered, result: Result) -> Tested:
    match result:
        case Accepted(text=text):
            said = text
        case Refused(stage=stage, text=text):
            said = f"to {stage}: {text}"
        case Lost(stage=stage, why=why):
            said = f"{stage}: {why}"
        case TooLate():
            said = "the session was not ready in time"
        case _:
            assert_never(result)
    return Tested(mail.node, mail.subject, isinstance(result, Accepted), result.host, said)
