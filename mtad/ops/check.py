"""`mtad check`: what would go wrong, found before it does; each finding with how to mend it."""

import asyncio
import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from ipaddress import ip_address
from itertools import chain
from pathlib import Path

import msgspec

from engine.policy import StreamDefinition
from mtad.audience.persons import read_suppression_key
from mtad.base.clock import SystemClock
from mtad.base.config import Config
from mtad.base.db import Connection, open_pool
from mtad.base.endpoint import host_and_port
from mtad.base.errors import Problem
from mtad.base.migrate import migration_files, schema_version
from mtad.base.sqlfiles import queries
from mtad.dkim.keys import dns_record, read_key
from mtad.ops.answers.unheard import unheard
from mtad.ops.daemon import is_running
from mtad.ops.keyfiles import read_event_keys, read_networks, read_password, read_tracking_keys
from mtad.ops.published import Published, asked, published
from mtad.ops.sockets import open_listener
from mtad.ops.spf import Spf, spf
from mtad.wire.egress import CannotBindError, bound_socket
from mtad.wire.hosts import is_public
from mtad.wire.resolver import Resolver

SQL = queries("operate")


class Level(StrEnum):
    """Whether anything is to be done."""

    OK = "ok"
    ADVICE = "advice"
    SKIPPED = "skipped"
    BAD = "bad"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `mend` is empty unless it is bad or could be better."""

    level: Level
    about: str
    text: str
    mend: str = ""


async def check_all(config: Config, *, database: str | None, resolver: Resolver | None = None) -> list[Finding]:
    """Look at everything; `database` is its URL, None when the embedded one was never started."""
    resolver = resolver or Resolver.from_config(config, SystemClock())
    findings = [*_keys(config), _state(config), *_authorities()]
    keys = (_published(config, number, resolver) for number in range(len(config.dkim)))
    known, hosts = await asyncio.gather(
        asyncio.gather(*keys, _return_path(config, resolver)),
        asyncio.gather(*(_hostname(about, host, ours, resolver) for about, host, ours in _names(config))),
    )
    findings += [*known, *chain.from_iterable(hosts), *await _spf(config, resolver)]
    findings += [_port(config, "tracker.listen", [config.tracker.listen])]
    if config.metrics.listen:
        findings += [_port(config, "metrics.listen", _metrics_ports(config))]
    findings += _sources(config)
    findings += await _database(database)
    return findings


def _keys(config: Config) -> Iterator[Finding]:
    if not config.dkim:
        yield Finding(Level.BAD, "dkim", "there is no [[dkim]]: bulk mail is not sent unsigned", "add one")
    for number, dkim in enumerate(config.dkim):
        yield _secret(f"dkim[{number}].key", config.path(dkim.key), read_key)
    yield _secret("tracker.keys", config.path(config.tracker.keys), read_tracking_keys)
    suppressions = config.path(config.privacy.suppression_key)
    yield _secret("privacy.suppression_key", suppressions, lambda _: read_suppression_key(config))
    if config.tracker.event_keys:
        yield _secret("tracker.event_keys", config.path(config.tracker.event_keys), lambda _: read_event_keys(config))
    for number, route in enumerate(config.route):
        if route.username:
            yield _secret(f"route[{number}].password", config.path(route.password), read_password)
    try:
        read_networks(config)
    except Problem as problem:
        yield Finding(Level.BAD, "tracker.scanner_networks, trusted_networks", str(problem), "correct the line")


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


def _authorities() -> Iterator[Finding]:
    """Nothing where the machine knows whose certificates to believe."""
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or (paths.capath and any(Path(paths.capath).iterdir()))):
        text = "this machine knows no authorities: TLS that must be verified fails, and no MTA-STS policy is found"
        yield Finding(Level.ADVICE, "certificates", text, "install ca-certificates")


async def _published(config: Config, number: int, resolver: Resolver) -> Finding:
    """Whether DNS has the public half of the key that signs."""
    dkim = config.dkim[number]
    about = f"dkim[{number}]"
    name = f"{dkim.selector}._domainkey.{dkim.domain}"
    try:
        ours = dns_record(read_key(config.path(dkim.key)))
    except Problem:
        return Finding(Level.SKIPPED, about, f"{name}: not compared, the key cannot be read")
    match await published(name, ours, resolver):
        case Published.YES:
            return Finding(Level.OK, about, f"{name}: published")
        case Published.UNKNOWN:
            return Finding(Level.SKIPPED, about, f"{name}: not compared, DNS cannot be had from here")
        case Published.NO:
            return Finding(Level.BAD, about, f"{name}: has no TXT record", f"publish {ours}")
        case Published.OTHER:
            return Finding(Level.BAD, about, f"{name}: DNS has another key than {dkim.key}", f"publish {ours}")


async def _return_path(config: Config, resolver: Resolver) -> Finding:
    """Whether bounces find us."""
    about, domain = "mta.return_path_domain", config.return_path_domain
    records = await asked(resolver, domain, "MX")
    if records is None:
        return Finding(Level.SKIPPED, about, f"{domain}: not looked at, DNS cannot be had from here")
    hosts = [text.partition(" ")[2].rstrip(".").lower() for text in records]
    if config.hostname in hosts:
        return Finding(Level.OK, about, f"{domain}: its MX is {config.hostname}")
    found = f"its MX is {', '.join(sorted(hosts))}, not {config.hostname}" if any(hosts) else "has no MX"
    return Finding(Level.BAD, about, f"{domain}: {found}", f"publish {domain}. MX 10 {config.hostname}.")


async def _spf(config: Config, resolver: Resolver) -> list[Finding]:
    """Whether the SPF record of the return path lets each address send that mail leaves by, as far as configured."""
    domain = config.return_path_domain
    ask = partial(asked, resolver)
    ours = [address for source in config.source for address in source.address if is_public(address)]
    if not any(source.address for source in config.source):
        ours = [address for kind in ("A", "AAAA") for address in await ask(config.hostname, kind) or ()]
    if not ours:
        return [Finding(Level.SKIPPED, "spf", f"{domain}: not judged, no public address of ours is known")]
    return [_of_spf(domain, address, await spf(domain, address, ask)) for address in ours]


def _of_spf(domain: str, address: str, said: Spf) -> Finding:
    about, mechanism = "spf", f"ip{ip_address(address).version}:{address}"
    match said:
        case Spf.ALLOWED:
            return Finding(Level.OK, about, f"{domain}: lets {address} send")
        case Spf.UNKNOWN:
            return Finding(Level.SKIPPED, about, f"{domain}: not judged for {address}")
        case Spf.MISSING:
            return Finding(Level.BAD, about, f"{domain}: has no SPF record", f'publish "v=spf1 {mechanism} -all"')
        case Spf.WRONG:
            mend = "correct it: one record, at most 10 look-ups, no name that has none"
            return Finding(Level.BAD, about, f"{domain}: receivers cannot read its SPF record", mend)
        case Spf.NO:
            return Finding(Level.BAD, about, f"{domain}: its SPF record lacks {address}", f"add {mechanism} to it")


def _names(config: Config) -> Iterator[tuple[str, str, Sequence[str]]]:
    """The names in EHLO: their keys, and the public addresses that mail under them leaves by, as far as configured."""
    yield "mta.hostname", config.hostname, ()
    for number, source in enumerate(config.source):
        if source.hostname:
            public = [address for address in source.address if is_public(address)]
            yield f"source[{number}].hostname", source.hostname, public


async def _hostname(about: str, host: str, ours: Sequence[str], resolver: Resolver) -> list[Finding]:
    """Whether a name in EHLO has an address, and each address that name: large receivers refuse others."""
    by_kind = await asyncio.gather(*(asked(resolver, host, kind) for kind in ("A", "AAAA")))
    addresses = [address for records in by_kind for address in records or ()]
    if addresses:
        missing = [
            Finding(Level.BAD, about, f"{host}: has not the address {address}", f"publish {address} as one of its own")
            for address in ours
            if address not in addresses
        ]
        return missing + await asyncio.gather(*(_back(about, host, address, resolver) for address in addresses))
    if None in by_kind:
        return [Finding(Level.SKIPPED, about, f"{host}: not looked at, DNS cannot be had from here")]
    return [Finding(Level.BAD, about, f"{host}: has no address", "publish the address that mail leaves by")]


async def _back(about: str, host: str, address: str, resolver: Resolver) -> Finding:
    """Whether an address leads back to its name."""
    records = await asked(resolver, ip_address(address).reverse_pointer, "PTR")
    if records is None:
        return Finding(Level.SKIPPED, about, f"{host}: {address} not looked up, DNS cannot be had from here")
    names = [text.rstrip(".").lower() for text in records]
    if host in names:
        return Finding(Level.OK, about, f"{host}: {address} and back")
    found = f"leads back to {', '.join(sorted(names)) or 'no name'}"
    mend = f"have whoever gave you {address} set its PTR record to {host}"
    return Finding(Level.BAD, about, f"{host}: {address} {found}", mend)


def _port(config: Config, about: str, addresses: Sequence[str]) -> Finding:
    many = addresses[0] if len(addresses) == 1 else f"{addresses[0]} to {addresses[-1].rpartition(':')[2]}"
    if is_running(config.state):
        return Finding(Level.OK, about, f"{many}: mtad runs and has it")
    for address in addresses:
        try:
            open_listener(about, address).close()
        except Problem as problem:
            return Finding(Level.BAD, about, str(problem), "stop that program, or set another address")
    return Finding(Level.OK, about, f"{many}: free")


def _metrics_ports(config: Config) -> list[str]:
    """One a worker."""
    host, port = host_and_port(config.metrics.listen)
    host = f"[{host}]" if ":" in host else host
    return [f"{host}:{port + slot}" for slot in range(config.mta.workers or len(os.sched_getaffinity(0)))]


def _sources(config: Config) -> Iterator[Finding]:
    """Whether this machine has the addresses that mail leaves by."""
    for number, source in enumerate(config.source):
        for address in source.address:
            about = f"source[{number}].address"
            try:
                bound_socket(address).close()
            except CannotBindError as error:
                mend = "give the address to an interface of this machine; until then the others of its pools send"
                yield Finding(Level.BAD, about, f"{source.name}: {error}", mend)
            else:
                yield Finding(Level.OK, about, f"{source.name}: {address} can be bound")


async def _database(url: str | None) -> list[Finding]:
    if url is None:
        return [Finding(Level.OK, "database", "embedded, made at the first `mtad run` or `mtad migrate`")]
    try:
        pool = await open_pool(url, most=1, name="mtad check")
    except Problem as problem:
        return [Finding(Level.BAD, "database", str(problem), "start the server, or correct database.url")]
    try:
        async with pool.acquire() as conn:
            schema = await _schema(conn)
            # Of another schema nothing more can be asked.
            return [schema] if schema.level is Level.BAD else [schema, *await _streams(conn), *await _unheard(conn)]
    finally:
        await pool.close()


async def _schema(conn: Connection) -> Finding:
    version, newest = await schema_version(conn), len(migration_files())
    if version != newest:
        mend = "mtad migrate" if version < newest else "install the newer mtad"
        return Finding(Level.BAD, "database", f"schema {version}, this program needs {newest}", mend)
    return Finding(Level.OK, "database", f"schema {version}")


async def _streams(conn: Connection) -> list[Finding]:
    """What the policies of streams leave open."""
    rows = await conn.fetch(SQL["stream_definitions"])
    policies = {row[0]: StreamDefinition.from_json(row[1]).policy for row in rows}
    return [
        Finding(Level.ADVICE, f"stream {name}", text, f"say {line} in its [policy]")
        for name, policy in policies.items()
        for text, line in policy.advice()
    ]


async def _unheard(conn: Connection) -> list[Finding]:
    """What the probe of the housekeeper found, and what died unread."""
    return [
        Finding(Level.BAD if one.holds else Level.ADVICE, one.about, one.why, one.mend) for one in await unheard(conn)
    ]
