"""The mails that all peers send: what mtad puts on the wire for seeded people, once, without its signature."""

import random
from pathlib import Path

import msgspec

from benchmarks.mailing import CAMPAIGN, write_campaign, write_people
from benchmarks.mails import Mail, unsigned, write_mails
from benchmarks.place import installed
from benchmarks.run import import_people, say, send_all, timed
from benchmarks.sinks import receiving
from mtad.base.errors import Problem
from mtad.lab.verify import Verifier, verify_all


class Captured(msgspec.Struct, frozen=True):
    """How many mails, their mean size with and without mtad's signature, and what dkimpy says of a sample."""

    messages: int
    message_bytes: int
    unsigned_bytes: int
    verified: int


async def capture(path: Path, contacts: int, *, size: int, domains: list[str], seed: int, sample: int) -> Captured:
    """Send to the lab's sink, which keeps everything, and write the mails in a seeded order to `path`."""
    draw = random.Random(seed)
    async with (
        receiving("lab", 1) as receiver,
        installed(1, statements=False) as place,
        place.connected() as pool,
    ):
        place.configure([("*", receiver.addresses[0])], sessions=10)
        people = place.folder / "people.csv"
        write_people(people, contacts, domains, draw)
        await import_people(place, people, write_campaign(place.folder, size, draw))
        await place.resolve(pool)
        await timed(place, "program", "start", CAMPAIGN)
        await send_all(place, pool, receiver, contacts, signed=True)
        assert receiver.lab is not None
        copies = sorted(receiver.lab.messages, key=lambda copy: copy.recipient)
        verifier = Verifier.from_config(place.installation.config)
    if len(copies) != contacts:
        raise Problem(f"composing: {len(copies):,} mails for {contacts:,} contacts")
    say("verifying mtad's own signatures")
    # Neighbours in the file are not of one domain, as they are not in a list of people.
    draw.shuffle(copies)
    verified = await require_signed("mtad", verifier, [copy.message for copy in copies[:sample]])
    mails = [Mail(copy.sender, copy.recipient, unsigned(copy.message)) for copy in copies]
    write_mails(path, mails)
    return Captured(
        messages=contacts,
        message_bytes=sum(len(copy.message) for copy in copies) // contacts,
        unsigned_bytes=sum(len(mail.message) for mail in mails) // contacts,
        verified=verified,
    )


async def require_signed(who: str, verifier: Verifier, messages: list[bytes]) -> int:
    """How many verify, all of them; Problem names who does not sign as it should, and why."""
    verdicts = await verify_all(verifier, messages)
    if bad := [verdict.why for verdict in verdicts if not verdict.signed]:
        raise Problem(f"{who}: {len(bad):,} of {len(verdicts):,} messages do not verify: {bad[0]}")
    return len(verdicts)
