"""A message, a contact and a stream in memory, and the mail that is made of them."""

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import msgspec

from engine.facts import Facts
from engine.policy import StreamDefinition, parse_stream
from engine.programs import parse_program
from engine.service import Program, Stream
from mtad.base.config import Config
from mtad.compose.composer import Composer
from mtad.compose.folder import with_pixel
from mtad.compose.links import rewritten
from mtad.compose.store import Parts, Stored
from mtad.compose.text import plain_text
from tests.compose.conftest import HTML
from tracker.tokens import Keys

NOW = datetime(2026, 11, 22, 16, 53, 1, tzinfo=UTC)
CONFIG = Config(domain="example.com")
KEYS = Keys.parse("1:" + "ab" * 32)
MESSAGE = 7
PIXEL, SHOP, TWO = 70, 71, 72


def stream_of(tracking: str = "full", **more: Any) -> Stream:
    raw = {
        "name": "sales-de",
        "from": "Müller & Söhne <news@example.com>",
        "reply_to": "answers@example.com",
        "imprint": "Müller & Söhne\nBerlin",
        "tracking": tracking,
    }
    definition: StreamDefinition = parse_stream(raw | more)
    return Stream(3, 1, "sales-de", definition)


def program() -> Program:
    raw = {"name": "nudge", "kind": "campaign", "stream": "sales-de", "step": [{"message": "nudge-1"}]}
    return Program(5, 1, "nudge", "campaign", 3, parse_program(raw, day=86400, window=86400), {"nudge-1": MESSAGE})


def facts(**changes: Any) -> Facts:
    base = Facts(
        job_id=99, contact_id=11, stream_id=3, program_id=5, version=1, message_id=MESSAGE, entry_id=None, site_id=1,
        class_=2, attempt=0, doubts=0, created=datetime(2026, 11, 22, 16, 0, 0, 123456, tzinfo=UTC), not_after=NOW,
        node="nudge-1", address="Ann@example.net", address_key="ann@example.net", domain="example.net", locale=None,
        zone=None, attributes={"first_name": "Änn", "sku": "a/b c"}, erased=False, subscription="subscribed",
        break_until=None, tracking=None, suppressed_all=None, suppressed_marketing=None, state=None, since=None,
        cool_until=None, cycle=0, entry_ended=False, entry_why=None, gate_version=1, program_fence=1,
        program_status="running", stream_version=1, epoch=1,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def composer_of(subject: str = "Hi {{ first_name }}", html: str | None = HTML, txt: str | None = None) -> Composer:
    made = txt is None and html is not None
    if html is not None:
        txt = plain_text(html) if txt is None else txt
        html, links = rewritten(html)
        html = with_pixel(html)
        urls = ["", *(link.url for link in links)]
    else:
        urls = []
    composer = Composer(CONFIG, KEYS)
    positions = list(range(len(urls)))
    stored = Stored(
        MESSAGE, "nudge-1", "nudge-1", Parts(subject, html, txt, made), html is not None,
        [PIXEL + position for position in positions], positions, urls,
    )  # fmt: skip
    composer.hold(stored)
    return composer


def parsed(wire: bytes) -> EmailMessage:
    message = email.message_from_bytes(wire, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def mail(composer: Composer, who: Facts, stream: Stream | None = None) -> EmailMessage:
    return parsed(composer.compose(who, program(), stream or stream_of(), NOW).message())
