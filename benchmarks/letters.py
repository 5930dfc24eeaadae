"""The campaign of benchmarks.mailing and its people in memory, as claimed jobs: what a worker composes."""

import csv
import random
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.mailing import CAMPAIGN, DOMAIN, STREAM, write_campaign, write_people
from engine.facts import Facts
from engine.policy import parse_stream
from engine.programs import parse_program
from engine.service import Program, Stream
from mtad.base.config import Config
from mtad.compose.composer import Composed, Composer
from mtad.compose.folder import read_message
from mtad.compose.store import Parts, Stored
from tracker.tokens import Keys

NOW = datetime(2026, 11, 22, 16, 53, 1, tzinfo=UTC)
_MESSAGE = 7
_FIRST_LINK = 70


class Letters(msgspec.Struct, frozen=True):
    """One message, who gets it, and what composes it."""

    composer: Composer
    keys: Keys
    parts: Parts
    links: Sequence[int]  # the pixel first
    program: Program
    stream: Stream
    facts: Sequence[Facts]

    def compose(self) -> Iterator[Composed]:
        """A mail for everybody, one by one."""
        return (self.composer.compose(facts, self.program, self.stream, NOW) for facts in self.facts)


def letters(count: int, size: int, seed: int) -> Letters:
    """`count` people with seven attributes, and a message of about `size` bytes."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="mtad-bench-") as name:
        folder = Path(name)
        write_people(folder / "people.csv", count, ["d0.example.net"], draw)
        (_, stream_file), (_, program_file) = write_campaign(folder, size, draw)
        with (folder / "people.csv").open(encoding="utf-8", newline="") as file:
            people = list(csv.DictReader(file))
        draft = read_message(folder / CAMPAIGN, people[0].keys() - {"email"}, bulk=True)
        stream = parse_stream(tomllib.loads(stream_file.read_text(encoding="utf-8")))
        definition = parse_program(tomllib.loads(program_file.read_text(encoding="utf-8")), day=86400, window=86400)
    keys = Keys.parse(f"1:{draw.randbytes(32).hex()}")
    composer = Composer(Config(domain=DOMAIN), keys)
    links = [_FIRST_LINK + number for number in range(len(draft.all_links))]
    positions, urls = map(list, zip(*draft.all_links, strict=True))
    composer.hold(Stored(_MESSAGE, CAMPAIGN, CAMPAIGN, draft.parts, draft.pixel, links, positions, urls))
    program = Program(5, 1, CAMPAIGN, "campaign", 3, definition, {definition.first: _MESSAGE})
    facts = [_facts(number, person, definition.first) for number, person in enumerate(people)]
    return Letters(composer, keys, draft.parts, links, program, Stream(3, 1, STREAM, stream), facts)


def _facts(number: int, person: dict[str, str], node: str) -> Facts:
    """Somebody against whom nothing speaks."""
    address = person.pop("email")
    values: dict[str, Any] = dict.fromkeys(Facts.__struct_fields__)
    values |= {
        "job_id": 1_000_000 + number, "contact_id": number + 1, "stream_id": 3, "program_id": 5, "version": 1,
        "message_id": _MESSAGE, "site_id": 1, "class_": 2, "attempt": 0, "doubts": 0,
        "created": NOW - timedelta(hours=1, microseconds=number), "not_after": NOW + timedelta(days=5), "node": node,
        "address": address, "address_key": address, "domain": address.rpartition("@")[2],
        "attributes": {**person, "points": int(person["points"])}, "erased": False, "subscription": "subscribed",
        "entry_ended": False, "program_status": "running", "stream_version": 1, "epoch": 1,
    }  # fmt: skip
    return Facts(**values)
