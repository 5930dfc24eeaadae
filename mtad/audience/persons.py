"""One person as a whole: everything that we hold about them, and its erasure.

After an erasure there is a number in place of a contact, ledger rows that name nobody, and a
keyed hash among the suppressions. A confirmed proof of consent stays for its own term, apart.
What was being sent or judged in that moment is erased by a sweep (`erase_leftovers`).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.service import Suppress, suppress
from mtad.audience import rejects, store
from mtad.audience.keyed import SuppressionKey, is_hash
from mtad.base.address import Address, parse_address
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import ConfigError, InputError
from mtad.base.sqlfiles import queries

SQL = queries("privacy")

# What an export reads, in this order, and what ties a row to the contacts $1. `enrolled` tells nothing
# that job and ledger do not, and has no index by contact.
# tests/audience/test_persons.py compares it, and the erasure, with the tables that there are.
OF_CONTACT = "contact_id = any($1::bigint[])"
OF_JOB = (
    "job_id in (select id from job where contact_id = any($1::bigint[])"
    " union all select job_id from ledger where contact_id = any($1::bigint[]))"
)
TABLES = {
    "contact": "id = any($1::bigint[])",
    "identity": OF_CONTACT,
    "subscription": OF_CONTACT,
    "proof": OF_CONTACT,
    "gate": OF_CONTACT,
    "engagement": OF_CONTACT,
    "engagement_base": OF_CONTACT,
    "transition": OF_CONTACT,
    "entry": OF_CONTACT,
    "job": OF_CONTACT,
    "job_data": OF_JOB,
    "ledger": OF_CONTACT,
    "answer": OF_CONTACT,
    "event": OF_CONTACT,
    "pending": OF_JOB,
    "visit": OF_JOB,
}
_NAMES = (
    "select (select jsonb_object_agg(id::text, name) from stream),"
    " (select jsonb_object_agg(id::text, name) from program),"
    " (select jsonb_object_agg(k.id::text, k.url) from message_link k where k.id = any($1::int[]))"
)


class Erased(msgspec.Struct, frozen=True):
    """What an erasure did."""

    hash: str
    contacts: int
    rows: int  # deleted, or made nobody's
    rejects: list[str]  # files from which lines were taken


def read_suppression_key(config: Config) -> SuppressionKey:
    """The key of the configuration; ConfigError names the file that is missing or wrong."""
    path = config.path(config.privacy.suppression_key)
    try:
        return SuppressionKey.parse(path.read_text(encoding="ascii"), str(path))
    except OSError as error:
        raise ConfigError(
            f"{path}: the key of suppressions: {error.strerror}; put it back from its backup, or,"
            f" if nobody was ever erased, make one: openssl rand -hex 32"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the key of suppressions: is not a text file") from None


async def export(pool: Pool, address: str, key: SuppressionKey | None = None) -> dict[str, Any]:
    """Everything that we hold about whoever has this address, as a document; InputError when that is nothing."""
    person = _address(address)

    async def work(conn: Connection) -> dict[str, Any]:
        ids = await _contacts(conn, person.key)
        found: dict[str, Any] = {"address": person.given, "made": datetime.now(UTC)}
        for table, of_person in TABLES.items():
            rows = [row[0] for row in await conn.fetch(f"select to_jsonb(t) from {table} t where {of_person}", ids)]  # noqa: S608 - our own names
            if rows:
                found[table] = rows
        proofs = [row[0] for row in await conn.fetch(SQL["proofs_of_erased"])]
        if kept := [proof for proof in proofs if _address(proof["address"]).key == person.key]:
            found["proof"] = [*kept, *found.get("proof", ())]
        hashed = [key.hash(person.key)] if key else []
        suppressions = await conn.fetch(
            "select to_jsonb(s) from suppression s where key = any($1::text[])",
            [person.key, f"@{person.domain}", *hashed],
        )
        if suppressions:
            found["suppression"] = [row[0] for row in suppressions]
        if len(found) == 2:
            raise InputError(f"{address}: nothing is known of this address")
        links = {row["link_id"] for table in ("event", "answer", "pending") for row in found.get(table, ())}
        streams, programs, urls = await conn.fetchrow(_NAMES, sorted(links - {None})) or (None, None, None)
        return found | {"names": {"stream_id": streams or {}, "program_id": programs or {}, "link_id": urls or {}}}

    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return await work(conn)


async def erase(
    pool: Pool, config: Config, address: str, by: str, *, still: Callable[[Connection], Awaitable[bool]] | None = None
) -> Erased:
    """Erase whoever has this address, known or not, and let no import bring it back; where `still` says so, asked last.

    When this returns the hash stands in `state/erased.hashes`, from which `erase_again`
    repeats it after a backup was restored; and no mail to the address begins any more.
    """
    person, key = _address(address), read_suppression_key(config)
    hashed = key.hash(person.key)

    async def work(conn: Connection) -> tuple[int, int]:
        await _require_key(conn, key)
        ids = await _contacts(conn, person.key)
        if still:
            await conn.execute(SQL["lock_person"], ids)
            if not await still(conn):
                return 0, 0
        await asyncio.to_thread(_note_hash, config.state, hashed)
        rows = await _erase(conn, ids, person.key, hashed, by)
        return len(ids), rows

    contacts, rows = await in_transaction(pool, work)
    # Where many are erased one by one, the sweep of files takes out the lines of all of them at once.
    cleaned = [] if still else await rejects.take_lines_of(pool, person.key)
    return Erased(hashed, contacts, rows, cleaned)


async def erase_again(pool: Pool, config: Config, hashes: Path | None, by: str) -> int:
    """Erase again whoever's hash stands in a file: after a backup was restored; how many addresses were found.

    Without a file: those that were noted in the state folder.
    """
    key = read_suppression_key(config)
    path = hashes or config.state / "erased.hashes"
    try:
        wanted = {line.split()[0] for line in path.read_text(encoding="ascii").splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if wrong := [text for text in sorted(wanted) if not is_hash(text)]:
        raise InputError(f"{path}: {wrong[0]!r} is no hash of an address")
    if foreign := [text for text in sorted(wanted) if not text.startswith(key.mark)]:
        raise InputError(f"{path}: {foreign[0]} was made with another key than {config.privacy.suppression_key}")
    found = 0
    async for address_key in _known_keys(pool):
        hashed = key.hash(address_key)
        if hashed in wanted:
            found += 1
            await in_transaction(pool, lambda conn, k=address_key, h=hashed: _erase_key(conn, k, h, by))  # type: ignore[misc]

    async def keep(conn: Connection) -> None:
        for hashed in sorted(wanted):
            await conn.execute(SQL["keep_hash"], "", hashed, by)

    await in_transaction(pool, keep)
    return found


async def erase_leftovers(pool: Pool) -> int:
    """Of people erased lately, what was being sent, judged or enqueued in that moment; how many people."""

    async def work(conn: Connection) -> int:
        ids = [row[0] for row in await conn.fetch(SQL["erased_lately"])]
        if ids:
            await _wipe(conn, ids)
        return len(ids)

    return await in_transaction(pool, work)


async def erased_among(conn: Connection, config: Config | None) -> list[tuple[int, str]]:
    """Lines and addresses of an import that belong to erased people and to no contact; they are taken out of it.

    ConfigError when there are erased people, and not the key (of `config`) by which they are known.
    """
    hashes = {row[0] for row in await conn.fetch(SQL["keyed_suppressions"])}
    if not hashes:
        return []
    if config is None:
        raise ConfigError("privacy.suppression_key: people were erased, and without it nobody knows who")
    key = read_suppression_key(config)
    _require_mark(hashes, key)
    found = [
        (line, address)
        for line, address_key, address in await store.unknown_incoming(conn)
        if key.hash(address_key) in hashes
    ]
    await store.drop_incoming(conn, [line for line, _ in found])
    return found


async def _erase_key(conn: Connection, address_key: str, hashed: str, by: str) -> int:
    return await _erase(conn, await _contacts(conn, address_key), address_key, hashed, by)


async def _erase(conn: Connection, ids: Sequence[int], address_key: str, hashed: str, by: str) -> int:
    await conn.execute(SQL["lock_person"], ids)
    # Entries end, gates rise and queued mail is due at once, for the pipeline to end it as erased.
    await suppress(conn, [Suppress(address_key, "all", "erased", by)])
    await conn.execute(SQL["keep_hash"], address_key, hashed, by)
    rows = await _wipe(conn, ids)
    await conn.execute(SQL["empty_contacts"], ids)
    return rows + len(ids)


async def _wipe(conn: Connection, ids: Sequence[int]) -> int:
    await conn.execute(SQL["lock_person"], ids)
    await conn.execute(SQL["forget_replies"], ids)
    mail = await conn.fetchval(SQL["erase_mail"], ids)
    return int(mail + await conn.fetchval(SQL["erase_rows"], ids))


async def _contacts(conn: Connection, address_key: str) -> list[int]:
    return [row[0] for row in await conn.fetch(SQL["contacts_of_person"], address_key)]


async def _require_key(conn: Connection, key: SuppressionKey) -> None:
    _require_mark({row[0] for row in await conn.fetch(SQL["keyed_suppressions"])}, key)


def _require_mark(hashes: set[str], key: SuppressionKey) -> None:
    if foreign := [text for text in sorted(hashes) if not text.startswith(key.mark)]:
        raise ConfigError(
            f"privacy.suppression_key: is not the key by which {len(foreign):,} erased addresses are known;"
            " put it back from its backup, or they would be taken again"
        )


async def _known_keys(pool: Pool) -> Any:  # noqa: ANN401 - an async generator of str
    """Every address key in the database, page by page."""
    after = 0
    while rows := await pool.fetch(SQL["keys_after"], after):
        for row in rows:
            yield row[1]
        after = rows[-1][0]
    for row in await pool.fetch(SQL["plain_suppressions"]):
        yield row[0]


def _note_hash(state: Path, hashed: str) -> None:
    """Durably, before anything is erased: a hash too many does no harm."""
    state.mkdir(parents=True, exist_ok=True)
    handle = os.open(state / "erased.hashes", os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, f"{hashed} {datetime.now(UTC):%Y-%m-%d}\n".encode("ascii"))
        os.fsync(handle)
    finally:
        os.close(handle)
    # The name must survive too: it may have been made just now.
    folder = os.open(state, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise InputError(f"{text!r}: {error}") from None
