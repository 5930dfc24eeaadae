"""Importing files of contacts and of suppressions: all of a file in one transaction, or nothing.

For a command's own event loop: the file is read in it.
"""

import zoneinfo
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path

import msgspec

from engine.policy import StreamDefinition
from engine.service import Suppress, suppress
from mtad.audience import store
from mtad.audience.columns import Columns, columns_of
from mtad.audience.csvfile import CsvFile
from mtad.audience.persons import erased_among
from mtad.audience.rejects import RejectsFile, add_rejects_file
from mtad.audience.rows import BASES, Permission, Rejected, RowReader, Types, read_rows
from mtad.audience.suppressions import Listed, suppressions_of
from mtad.audience.values import Type
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import InputError, Unavailable

# What is being done, how much of it is done, how much there is (None: not known yet).
Progress = Callable[[str, int, int | None], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command says beside the file; '' is not said."""

    stream: str = ""
    basis: str = ""
    source: str = ""
    encoding: str = ""
    types: Mapping[str, Type] = {}  # for new attributes whose type shall not be found out
    dry_run: bool = False


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did: rows = made + changed + unchanged + refused."""

    file: str
    dry_run: bool
    rows: int
    made: int
    changed: int
    unchanged: int
    refused: int  # rows of which nothing was taken
    kept: int  # known contacts that were brought up to date, with their permission left as it was
    reasons: dict[str, int]  # refused + kept
    subscribed: int
    inactive: int  # of the subscribed: arrived as Inactive
    attributes: dict[str, Type]
    rejects: str | None = None  # the file they stand in


class Suppressed(msgspec.Struct, frozen=True, kw_only=True):
    """What an import of suppressions did."""

    file: str
    rows: int
    suppressed: int  # that were not before
    rejected: int
    rejects: str | None


class _Undone(Exception):
    """Ends the transaction of a dry run; carries what it found."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary


async def import_contacts(
    pool: Pool, path: Path, options: Options, *, now: datetime, progress: Progress, config: Config | None = None
) -> Summary:
    """Take the good rows of a file and write the others to its rejects; or raise, and nothing was changed.

    InputError names what is wrong with the file or the options, ConfigError the key of
    suppressions, in `config`, when people were erased. A dry run writes the rejects too, for
    they are what one wants to know.
    """
    file = CsvFile(path, encoding=options.encoding, wanted=("email",))
    try:
        columns = columns_of(file.header)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    permission = permission_of(columns, options)
    types = Types(columns)
    total = 0
    rows = file.rows()
    # The file is read twice, because the types depend on all rows and memory must not.
    while batch := [cells for _, cells in islice(rows, 1000)]:
        types.add(batch)
        total += len(batch)
        progress("reading", total, None)
    zones = _zones() if "zone" in columns.known else frozenset()

    async def work(conn: Connection) -> Summary:
        registered = await store.begin_import(conn)
        decided = types.decided(registered, options.types)
        reader = RowReader(columns, decided, permission=permission, zones=zones, now=now)
        rejected: list[Rejected] = []
        contacts = read_rows(reader, file.rows(), rejected)
        copied = 0
        while taken := await store.copy_contacts(conn, contacts, reader.fields):
            copied += taken
            progress("checking", copied + len(rejected), total)
        progress("writing", 0, None)
        await store.end_copy(conn)
        summary = await _write(conn, path, options, permission, rejected, copied, columns.known, config)
        await store.register_attributes(conn, decided)
        rejects.stage(rejected)
        summary = msgspec.structs.replace(summary, attributes=decided)
        if options.dry_run:
            raise _Undone(summary)
        return summary

    with RejectsFile(path) as rejects:
        try:
            summary = await in_transaction(pool, work)
        except _Undone as undone:
            summary = undone.summary
        published = rejects.publish()
    await add_rejects_file(pool, published)
    return msgspec.structs.replace(summary, rejects=str(published) if published else None)


async def import_suppressions(pool: Pool, path: Path, *, encoding: str = "") -> Suppressed:
    """Suppress what a file lists; what is no address and no domain goes to its rejects.

    InputError, and nothing is changed, when the file cannot be read.
    """
    file = CsvFile(path, encoding=encoding, wanted=("email",))
    try:
        found, rejected = suppressions_of(file.header_line, file.header, file.rows(), f"import:{path.name}")
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None

    async def work(conn: Connection) -> int:
        fresh = await suppress_listed(conn, found)
        rejects.stage(rejected)
        return fresh

    with RejectsFile(path) as rejects:
        fresh = await in_transaction(pool, work)
        published = rejects.publish()
    await add_rejects_file(pool, published)
    return Suppressed(
        file=str(path),
        rows=len(found) + len(rejected),
        suppressed=fresh,
        rejected=len(rejected),
        rejects=str(published) if published else None,
    )


async def suppress_listed(conn: Connection, listed: Sequence[Listed]) -> int:
    """Suppress them for good, in the caller's transaction; how many were not suppressed before."""
    return await suppress(conn, [Suppress(row.key, row.scope, row.reason, row.source) for row in listed])


def permission_of(columns: Columns, options: Options) -> Permission | None:
    """What the contacts of a file are subscribed with; None when they are not. InputError when it does not hold."""
    proof = "consent_at" in columns.known and "consent_source" in columns.known
    if not options.stream:
        if options.basis or options.source:
            raise InputError("--basis and --source say something about a stream: add --stream NAME")
        if columns.about_stream:
            raise InputError(
                f"column {columns.about_stream[0]} says something about a stream: add --stream NAME, or leave it out"
            )
        return None
    if options.basis and options.basis not in BASES:
        raise InputError(f"--basis {options.basis}: write {', '.join(BASES)}")
    if options.basis and options.source:
        return Permission(options.basis, options.source)
    if proof and not options.source:
        return Permission(options.basis or "consent", "")
    raise InputError(
        "--stream needs to know by what right: --basis consent|existing_customer|contract and --source TEXT,"
        " or columns consent_at and consent_source"
    )


async def _write(
    conn: Connection,
    path: Path,
    options: Options,
    permission: Permission | None,
    rejected: list[Rejected],
    copied: int,
    known: Container[str],
    config: Config | None,
) -> Summary:
    """From `incoming`, with the columns `known`, into the tables; adds the rows that are not taken to `rejected`."""
    reasons = Counter({"bad row": len(rejected)})
    stream_id, stream = await _stream(conn, options.stream) if permission else (None, None)
    for why, dropped in (
        ("double", await store.drop_doubles(conn)),
        ("external_id", await store.drop_foreign_ids(conn) if "external_id" in known else []),
        ("erased", [Rejected(line, address, "erased") for line, address in await erased_among(conn, config)]),
    ):
        reasons[why] += len(dropped)
        rejected += dropped
        copied -= len(dropped)
    rows = copied + len(rejected)
    kept = 0
    for bad, is_known in await store.hold(conn, stream_id):
        rejected.append(bad)
        reasons[bad.reason] += 1
        kept += is_known
    changed = await store.change_contacts(conn)
    made = await store.add_contacts(conn)
    if "external_id" in known:
        await store.add_external_ids(conn)
    subscribed = inactive = 0
    if permission is not None and stream_id is not None and stream is not None:
        policy = stream.policy
        subscribed, inactive = await store.subscribe(
            conn,
            stream_id,
            basis=permission.basis,
            fact=f"import:{path.name}",
            too_old=policy.days * policy.day,
            most_ignored=policy.attempts - 1,
        )
        if "tracking" in known:
            await store.tighten_tracking(conn, stream_id, stream.tracking)
    refused = len(rejected) - kept
    return Summary(
        file=str(path),
        dry_run=options.dry_run,
        rows=rows,
        made=made,
        changed=changed,
        unchanged=rows - made - changed - refused,
        refused=refused,
        kept=kept,
        reasons={why: count for why, count in reasons.items() if count},
        subscribed=subscribed,
        inactive=inactive,
        attributes={},
    )


async def _stream(conn: Connection, name: str) -> tuple[int, StreamDefinition]:
    if found := await store.stream_of_name(conn, name):
        return found[0], StreamDefinition.from_json(found[1])
    raise InputError(f"--stream {name}: there is no such stream; `mtad stream apply FILE.toml` makes one")


def _zones() -> frozenset[str]:
    zones = frozenset(zoneinfo.available_timezones())
    if not zones:
        raise Unavailable("this machine has no time zones to compare the column zone with; install tzdata")
    return zones
