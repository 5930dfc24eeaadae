"""The mails of a program as somebody would get them now, without sending them.

They are made by the same code as real ones, with job 0 and contact 0: their links
lead where they should, earn nothing, and unsubscribe nobody.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from engine.facts import Facts
from engine.programs import mails_of
from engine.service import Catalogue, Stream
from mtad.base.address import Address, parse_address
from mtad.base.config import Config
from mtad.base.db import Connection, Pool
from mtad.base.errors import ConfigError, InputError
from mtad.compose import store
from mtad.compose.composer import Composed, Composer, ContentFault
from tracker.tokens import Keys

Sign = Callable[[Composed, Stream, int], bytes]
"""A mail, its stream, Unix time → the field of its signature."""

# What a stand-in has for an attribute of each type, where text shows its own name.
_SAMPLES: dict[str, object] = {"number": 1, "date": "2026-01-31", "bool": True}


class Rendered(msgspec.Struct, frozen=True):
    """One mail of the program."""

    node: str
    subject: str
    html: str | None
    txt: str | None
    composed: Composed
    eml: bytes  # signed, as on the wire
    pool: str  # of its stream


async def rendered(
    pool: Pool, config: Config, name: str, as_contact: str | None, to: str | None, *, sign: Sign, now: datetime
) -> list[Rendered]:
    """Every message of the program, in the order of its steps, composed and signed.

    The words are those for the contact with the address `as_contact`, else for a stand-in who has
    every attribute; the recipient is `to`, else that contact. InputError for an unknown program or
    contact, and for a message that cannot be made for this one.
    """
    async with pool.acquire() as conn:
        versions = await store.program_versions(conn, name)
        if versions is None:
            raise InputError(f"program {name!r} is unknown; `mtad program list` shows which there are")
        person = await _person(conn, config, as_contact)
    catalogue = Catalogue(pool)
    version = (versions.program_id, versions.version)
    stream_version = (versions.stream_id, versions.stream_version)
    await catalogue.need([version], [stream_version], versions.epoch)
    program, stream = catalogue.program(*version), catalogue.stream(*stream_version)
    composer = Composer(config, tracking_keys(config))
    await composer.need(pool, program.messages.values())

    mails: list[Rendered] = []
    for node in mails_of(program.definition):
        # A Message-ID is made of job and time of making: a microsecond apart, or receivers drop all but the first.
        made = now + timedelta(microseconds=len(mails))
        facts = _facts(versions, program.messages[node], node, person=person, to=to or person.address, now=made)
        try:
            texts = composer.texts(facts, stream)
            composed = composer.compose(facts, program, stream, now)
        except ContentFault as fault:
            raise InputError(f"{name}: {node}: cannot be made for {person.address}: {fault.reason}") from None
        signature = sign(composed, stream, int(now.timestamp()))
        eml, pool_ = composed.message(signature), stream.definition.pool
        mails.append(Rendered(node, texts.subject, texts.html, texts.txt, composed, eml, pool_))
    return mails


async def _person(conn: Connection, config: Config, as_contact: str | None) -> store.Person:
    if as_contact is None:
        types = await store.attribute_types(conn)
        attributes = {name: _SAMPLES.get(kind, f"[{name}]") for name, kind in types.items()}
        address = f"preview@{config.domain}"
        return store.Person(address, address, "en", "UTC", attributes)
    address_key = _address("--as", as_contact).key
    person = await store.contact_by_key(conn, address_key)
    if person is None:
        raise InputError(f"--as: there is no contact {as_contact!r}")
    return person


def _facts(
    versions: store.Versions, message_id: int, node: str, *, person: store.Person, to: str, now: datetime
) -> Facts:
    """A claimed job that no queue holds: job 0 and contact 0, created now."""
    recipient = _address("--to", to)
    return Facts(
        job_id=0,
        contact_id=0,
        stream_id=versions.stream_id,
        program_id=versions.program_id,
        version=versions.version,
        message_id=message_id,
        entry_id=None,
        site_id=0,
        class_=versions.class_,
        attempt=0,
        doubts=0,
        created=now,
        not_after=now,
        node=node,
        address=recipient.wire,
        address_key=recipient.key,
        domain=recipient.domain,
        locale=person.locale,
        zone=person.zone,
        attributes=person.attributes,
        erased=False,
        subscription=None,
        break_until=None,
        tracking=None,
        suppressed_all=None,
        suppressed_marketing=None,
        state=None,
        since=None,
        cool_until=None,
        cycle=0,
        entry_ended=False,
        entry_why=None,
        gate_version=0,
        program_fence=0,
        program_status="draft",
        stream_version=versions.stream_version,
        epoch=versions.epoch,
    )


def _address(option: str, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise InputError(f"{option}: {text!r}: {error}") from None


def tracking_keys(config: Config) -> Keys:
    """The keys of the configuration; ConfigError names the file that is missing or wrong."""
    path: Path = config.path(config.tracker.keys)
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise ConfigError(f"{path}: tracking keys: {error.strerror}; `mtad init` makes them") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: tracking keys: is not a text file") from None
    return Keys.parse(text, str(path))
