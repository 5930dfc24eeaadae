"""One person as a whole: everything that we hold about them, and its erasure.

After an erasure there is a number in place of a contact, ledger rows that name nobody, and a
keyed hash among the suppressions. A confirmed proof of consent stays for its own term, apart.
What was being sent or judged in that moment is erased by a sweep (`erase_leftovers`).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
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
        ids = await _contacts(conn, [person.key])
        found: dict[str, Any] = {"address": person.given, "made": datetime.now(UTC)}
        for table, of_person in TABLES.items():
            rows = [row[0] for row in await conn.fetch(f"select to_jsonb(t) from {table} t where {of_person}", ids)]  # noqa: S608 - our own names
            if rows:
                found[table] = rows
        proofs = [row[0] for row in await conn.fetch(SQL["proofs_of_erased"], person.key)]
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


async def erase(pool: Pool, config: Config, address: str, by: str) -> Erased:
    """Erase whoever has this address, known or not, and let no import bring it back.

    When this returns the hash stands in `state/erased.hashes`, from which `erase_again`
    repeats it after a backup was restored; and no mail to the address begins any more.
    """
    person, key = _address(address), read_suppression_key(config)
    hashes = {person.key: key.hash(person.key)}

    async def work(conn: Connection) -> tuple[int, int]:
        await _require_key(conn, key)
        ids = await _contacts(conn, hashes)
        await asyncio.to_thread(_note_hashes, config.state, hashes.values())
        return len(ids), await _erase(conn, ids, hashes, by)

    contacts, rows = await in_transaction(pool, work)
    return Erased(hashes[person.key], contacts, rows, await rejects.take_lines_of(pool, person.key))


async def erase_each(
    pool: Pool,
    config: Config,
    key: SuppressionKey,
    address_keys: Collection[str],
    by: str,
    still: Callable[[Connection], Awaitable[Collection[str]]],
) -> int:
    """Erase those of these people whom `still` names once they are locked, in one transaction; how many contacts.

    `key` is the one in use (`suppression_key_in_use`). Their lines in files of rejects go by the sweep of files.
    """

    async def work(conn: Connection) -> int:
        await conn.execute(SQL["lock_person"], await _contacts(conn, address_keys))
        named = await still(conn)
        hashes = {one: key.hash(one) for one in address_keys if one in named}
        if not hashes:
            return 0
        await asyncio.to_thread(_note_hashes, config.state, hashes.values())
        ids = await _contacts(conn, hashes)
        await _erase(conn, ids, hashes, by)
        return len(ids)

    return await in_transaction(pool, work)


async def suppression_key_in_use(pool: Pool, config: Config) -> SuppressionKey:
    """The key by which the erased are known; ConfigError when the one of the configuration is not, or is missing."""
    key = read_suppression_key(config)
    async with pool.acquire() as conn:
        await _require_key(conn, key)
    return key


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
    return await _erase(conn, await _contacts(conn, [address_key]), {address_key: hashed}, by)


async def _erase(conn: Connection, ids: Sequence[int], hashes: Mapping[str, str], by: str) -> int:
    await conn.execute(SQL["lock_person"], ids)
    # Entries end, gates rise and queued mail is due at once, for the pipeline to end it as erased.
    await suppress(conn, [Suppress(address_key, "all", "erased", by) for address_key in hashes])
    await conn.executemany(SQL["keep_hash"], [(one, hashes[one], by) for one in sorted(hashes)])
    rows = await _wipe(conn, ids)
    await conn.execute(SQL["empty_contacts"], ids)
    return rows + len(ids)


async def _wipe(conn: Connection, ids: Sequence[int]) -> int:
    await conn.execute(SQL["lock_person"], ids)
    await conn.execute(SQL["forget_replies"], ids)
    mail = await conn.fetchval(SQL["erase_mail"], ids)
    return int(mail + await conn.fetchval(SQL["erase_rows"], ids))


async def _contacts(conn: Connection, address_keys: Collection[str]) -> list[int]:
    return [row[0] for row in await conn.fetch(SQL["contacts_of_person"], [*address_keys])]


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


def _note_hashes(state: Path, hashes: Collection[str]) -> None:
    """Durably, before anything is erased: that of who is erased by the next try only does no harm."""
    state.mkdir(parents=True, exist_ok=True)
    handle = os.open(state / "erased.hashes", os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, "".join(f"{hashed} {datetime.now(UTC):%Y-%m-%d}\n" for hashed in hashes).encode("ascii"))
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
