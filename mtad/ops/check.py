"""`mtad check`: what would go wrong, found before it does; each finding with how to mend it."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.resolver
import msgspec

from mtad.base.config import Config
from mtad.base.db import open_pool
from mtad.base.errors import Problem
from mtad.base.migrate import migration_files, schema_version
from mtad.dkim.keys import dns_record, read_key
from mtad.ops.daemon import is_running
from mtad.ops.keyfiles import read_tracking_keys
from mtad.ops.sockets import open_listener

# A resolver that has not answered by then does not help today.
DNS_PATIENCE = 4.0


class Level(StrEnum):
    """Whether anything is to be done."""

    OK = "ok"
    SKIPPED = "skipped"
    BAD = "bad"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `mend` is empty unless it is bad."""

    level: Level
    about: str
    text: str
    mend: str = ""


Lookup = Callable[[str], Awaitable[list[str]]]


async def txt_records(name: str) -> list[str]:
    """The TXT records of a name, none when there is none; OSError when DNS cannot be had."""
    try:
        answer = await dns.asyncresolver.resolve(name, "TXT", lifetime=DNS_PATIENCE)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except dns.exception.DNSException as error:
        raise OSError(str(error)) from None
    return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]


async def check_all(config: Config, *, database: str | None, lookup: Lookup = txt_records) -> list[Finding]:
    """Look at everything; `database` is its URL, None when the embedded one was never started."""
    findings = [*_keys(config), _state(config)]
    findings += await asyncio.gather(*(_published(config, number, lookup) for number in range(len(config.dkim))))
    findings.append(_port(config))
    findings.append(await _schema(database))
    return findings


def _keys(config: Config) -> Iterator[Finding]:
    if not config.dkim:
        yield Finding(Level.BAD, "dkim", "there is no [[dkim]]: bulk mail is not sent unsigned", "add one")
    for number, dkim in enumerate(config.dkim):
        yield _secret(f"dkim[{number}].key", config.path(dkim.key), read_key)
    yield _secret("tracker.keys", config.path(config.tracker.keys), read_tracking_keys)


def _secret(about: str, path: Path, read: Callable[[Path], object]) -> Finding:
    """A key file: it is there, it can be read, and only by its owner."""
    try:
        read(path)
        others = path.stat().st_mode & 0o077
    except Problem as problem:
        return Finding(Level.BAD, about, str(problem), "correct the path, or restore the file from your backup")
    if others and "CREDENTIALS_DIRECTORY" not in os.environ:
        return Finding(Level.BAD, about, f"{path}: other users can read it", f"chmod 600 {path}")
    return Finding(Level.OK, about, f"{path}: good")


def _state(config: Config) -> Finding:
    place = config.state
    while not place.exists():
        place = place.parent
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Finding(Level.OK, "state_dir", f"{config.state}: can be written")
    return Finding(Level.BAD, "state_dir", f"{place}: cannot be written", "give it to the user that runs mtad")


class Published(StrEnum):
    """What DNS has of a key."""

    YES = "published"
    NO = "missing"
    OTHER = "another key"
    UNKNOWN = "not to be had"


async def published(name: str, record: str, lookup: Lookup = txt_records) -> Published:
    """Whether DNS has the key of `record` at `name`."""
    try:
        found = await lookup(name)
    except OSError:
        return Published.UNKNOWN
    if _public_key(record) in map(_public_key, found):
        return Published.YES
    return Published.OTHER if found else Published.NO


async def _published(config: Config, number: int, lookup: Lookup) -> Finding:
    """Whether DNS has the public half of the key that signs."""
    dkim = config.dkim[number]
    about = f"dkim[{number}]"
    name = f"{dkim.selector}._domainkey.{dkim.domain}"
    try:
        ours = dns_record(read_key(config.path(dkim.key)))
    except Problem:
        return Finding(Level.SKIPPED, about, f"{name}: not compared, the key cannot be read")
    match await published(name, ours, lookup):
        case Published.YES:
            return Finding(Level.OK, about, f"{name}: published")
        case Published.UNKNOWN:
            return Finding(Level.SKIPPED, about, f"{name}: not compared, DNS cannot be had from here")
        case Published.NO:
            return Finding(Level.BAD, about, f"{name}: has no TXT record", f"publish {ours}")
        case Published.OTHER:
            return Finding(Level.BAD, about, f"{name}: DNS has another key than {dkim.key}", f"publish {ours}")


def _public_key(record: str) -> tuple[str, str]:
    """Its kind and itself; a record without a kind means RSA (RFC 6376 section 3.6.1)."""
    tags = dict(tag.partition("=")[::2] for tag in "".join(record.split()).split(";"))
    return tags.get("k", "rsa"), tags.get("p", "")


def _port(config: Config) -> Finding:
    listen = config.tracker.listen
    if is_running(config.state):
        return Finding(Level.OK, "tracker.listen", f"{listen}: mtad runs and has it")
    try:
        open_listener("tracker.listen", listen).close()
    except Problem as problem:
        return Finding(Level.BAD, "tracker.listen", str(problem), "stop that program, or set another address")
    return Finding(Level.OK, "tracker.listen", f"{listen}: free")


async def _schema(url: str | None) -> Finding:
    if url is None:
        return Finding(Level.OK, "database", "embedded, made at the first `mtad run` or `mtad migrate`")
    try:
        pool = await open_pool(url, most=1, name="mtad check")
    except Problem as problem:
        return Finding(Level.BAD, "database", str(problem), "start the server, or correct database.url")
    try:
        async with pool.acquire() as conn:
            version = await schema_version(conn)
    finally:
        await pool.close()
    newest = len(migration_files())
    if version != newest:
        mend = "mtad migrate" if version < newest else "install the newer mtad"
        return Finding(Level.BAD, "database", f"schema {version}, this program needs {newest}", mend)
    return Finding(Level.OK, "database", f"schema {version}")
