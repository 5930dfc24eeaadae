"""The next DKIM key of a domain: made, announced in DNS, and taken on a day that is known before.

Receivers look a key up when they read the mail, and resolvers remember for a day that
there was none. So a key is published first, signs two days later, and the one before it
stays in DNS until no mail that it signed can be on its way any more.
"""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import msgspec

from mtad.base.config import SELECTOR, Config, Dkim
from mtad.base.errors import InputError, Problem
from mtad.dkim.keys import algorithm, dns_record, new_ed25519_key, new_key, read_key
from mtad.dkim.sign import Signer
from mtad.ops.install import write_new
from mtad.ops.records import Record

# Longest time for which resolvers remember that a name did not exist (RFC 2308 section 5).
ANNOUNCED = timedelta(days=2)

# Mail is given up after five days as shipped; a receiver may verify it once more when it is read.
KEPT = timedelta(days=14)

_MAKE = {"rsa-sha256": new_key, "ed25519-sha256": new_ed25519_key}


class Standing(msgspec.Struct, frozen=True):
    """One key of the configuration: what it does today."""

    domain: str
    selector: str
    algorithm: str
    streams: Sequence[str]
    source: str  # "": all
    starts: date | None
    state: str  # signs, waits, replaced
    name: str  # of its record
    record: str


class Step(msgspec.Struct, frozen=True):
    """What the operator does, and when."""

    day: date
    text: str
    records: Sequence[Record] = ()
    lines: str = ""  # for mtad.toml


class Rotation(msgspec.Struct, frozen=True):
    """A key that was made, and the way until it is the only one."""

    key: Path
    steps: Sequence[Step]


def standings(config: Config, now: datetime) -> list[Standing]:
    """Each [[dkim]] in the order of the file; ConfigError when a key cannot be read."""
    found = []
    for dkim in config.dkim:
        key = read_key(config.path(dkim.key))
        signer = Signer.from_config(config, dkim.source)
        signing = {
            identity.selector
            for stream in dkim.streams or [""]
            for identity in signer.identities_for(dkim.domain, stream, now.timestamp())
        }
        waits = dkim.starts is not None and _midnight(dkim.starts) > now
        state = "signs" if dkim.selector in signing else "waits" if waits else "replaced"
        name = f"{dkim.selector}._domainkey.{dkim.domain}"
        found.append(
            Standing(
                dkim.domain,
                dkim.selector,
                algorithm(key),
                dkim.streams,
                dkim.source,
                dkim.starts,
                state,
                name,
                dns_record(key),
            )
        )
    return found


def rotate(config: Config, selector: str, new: str, now: datetime) -> Rotation:
    """Make the key that follows the one of `selector`, of its kind and for its streams.

    Only the key's file is written. InputError when there is no such selector, when several
    domains have it, or when `new` is taken.
    """
    old = _only(config, selector)
    if any(dkim.selector == new and dkim.domain == old.domain for dkim in config.dkim):
        raise InputError(f"--new: {new!r} is a selector of {old.domain} already")
    if not SELECTOR.fullmatch(new):
        raise InputError(f"--new: {new!r} is no selector; write letters, digits and hyphens")
    kind = algorithm(read_key(config.path(old.key)))
    file = Path(old.key).with_name(f"dkim-{new}.pem")
    path = config.path(str(file))
    pem = _MAKE[kind]()
    try:
        write_new(path, pem, 0o600)
    except OSError as error:
        raise Problem(f"{path}: {(error.strerror or str(error)).lower()}") from None
    name = f"{new}._domainkey.{old.domain}"
    record = Record(name, "TXT", dns_record(read_key(path)), "DKIM: the public half of the next key")
    today = now.astimezone(UTC).date()
    starts = today + ANNOUNCED
    streams = f"streams = {json.dumps(old.streams)}\n" if old.streams else ""
    source = f'source = "{old.source}"\n' if old.source else ""
    lines = (
        f'[[dkim]]\ndomain = "{old.domain}"\nselector = "{new}"\nkey = "{file}"\n{streams}{source}starts = {starts}\n'
    )
    withdrawn = Record(f"{selector}._domainkey.{old.domain}", "TXT", "v=DKIM1; p=", "DKIM: this key is withdrawn")
    return Rotation(
        path,
        [
            Step(today, "Publish", [record]),
            Step(
                today,
                "Add to mtad.toml and send mtad a SIGHUP; it goes on with the old key. `mtad dkim list` shows when DNS"
                " has the new one",
                lines=lines,
            ),
            Step(starts, f"From 0:00 UTC on {new} signs instead of {selector}: DNS must have it by then"),
            Step(starts + KEPT, f"Take {selector} out of mtad.toml, delete {old.key}, and publish", [withdrawn]),
        ],
    )


def _only(config: Config, selector: str) -> Dkim:
    found = [dkim for dkim in config.dkim if dkim.selector == selector]
    if len(found) != 1:
        known = ", ".join(sorted({dkim.selector for dkim in config.dkim})) or "none"
        raise InputError(f"{len(found) or 'no'} [[dkim]] with selector {selector!r}; there are: {known}")
    return found[0]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
