"""One mail for one contact: the templates of a message, filled, addressed, and turned into bytes.

A message is compiled once; per recipient there are only values, links and the pixel.
How much of it can be told from whom is decided by the stricter of two modes, the
contact's own and the stream's:

    full, hygiene    links and pixel carry the job
    aggregate        links carry no job (0), there is no pixel
    none             links are the destinations themselves, there is no pixel
"""

import html
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from jinja2 import Template
from markupsafe import Markup, escape

from engine.facts import Facts
from engine.policy import mailbox as parse_mailbox
from engine.service import Program, Stream
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.compose import mime, store
from mtad.compose.faults import ContentFault
from mtad.compose.links import CALL, filled
from mtad.compose.template import compiled, context, rendered
from mtad.compose.text import settled
from tracker.tokens import (
    Keys,
    Purpose,
    click_url,
    contact_token,
    link_token,
    pixel_url,
    return_path,
    unsubscribe_url,
)

__all__ = ["Composed", "Composer", "ContentFault", "Texts"]

_MODES = ("full", "hygiene", "aggregate", "none")
_CLASSES = ("transactional", "triggered", "bulk")
_BULK = 2
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class Composed(msgspec.Struct, frozen=True):
    """A mail without its signature. Values of headers are folded; all line ends are CRLF."""

    return_path: str
    recipient: str
    from_domain: str  # for the signature
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def message(self, signature: bytes = b"") -> bytes:
        """The whole message as it goes on the wire, dots not stuffed; `signature` is a field with its CRLF."""
        head = b"".join([b"%b: %b\r\n" % header for header in self.headers])
        return signature + head + b"\r\n" + self.body


class Texts(msgspec.Struct, frozen=True):
    """What the recipient reads."""

    subject: str
    html: str | None
    txt: str | None


class _Message:
    """The templates of one message, compiled."""

    def __init__(self, stored: store.Stored) -> None:
        parts = stored.parts
        self.subject = compiled(parts.subject, html=False)
        self.html: Template | None = None if parts.html is None else compiled(parts.html, html=True)
        self.txt: Template | None = None if parts.txt is None else compiled(parts.txt, html=False)
        self.made = parts.made
        self.links = {
            position: (link, url)
            for position, link, url in zip(stored.positions, stored.link_ids, stored.urls, strict=True)
        }
        self.boundary = b"=_mtad.%d" % stored.id
        lines = sum((part or "").count("\n") + 1 for part in (parts.html, parts.txt))
        # Twice the template's own: the first mails may bring as many personal lines.
        self.quoted = mime.Quoted(2 * lines)


class _Sender:
    """What all mails of one version of a stream have in common."""

    def __init__(self, config: Config, stream: Stream) -> None:
        definition = stream.definition
        display, address = parse_mailbox("from", definition.from_)
        self.from_ = mime.mailbox("From", display, address.wire)
        self.domain = address.domain
        self.reply_to: bytes | None = None
        if definition.reply_to:
            shown, answer = parse_mailbox("reply_to", definition.reply_to)
            self.reply_to = mime.mailbox("Reply-To", shown, answer.wire)
        self.list_id = f"<{definition.list_id}>".encode()
        self.mode = _MODES.index(definition.tracking)
        self.base = definition.tracking_url or config.tracker_url
        self.imprint = definition.imprint.strip()
        self.imprint_html = Markup("<br>\n").join(escape(line) for line in self.imprint.splitlines())


class Composer:
    """Composes mails of the messages that it was told to `need`."""

    def __init__(self, config: Config, keys: Keys) -> None:
        self._config = config
        self._keys = keys
        self._messages: dict[int, _Message] = {}
        self._senders: dict[tuple[int, int], _Sender] = {}
        self._sender_id = sender_id(config.domain)

    async def need(self, pool: Pool, message_ids: Iterable[int]) -> None:
        """Have these messages compiled; what is held is not asked for again, for messages never change."""
        missing = sorted(set(message_ids) - self._messages.keys())
        if missing:
            async with pool.acquire() as conn:
                for stored in await store.messages(conn, missing):
                    self._messages[stored.id] = _Message(stored)

    def compose(self, facts: Facts, program: Program, stream: Stream, now: datetime) -> Composed:
        """One mail; `now` becomes its Date. ContentFault when it cannot be made for this contact.

        About 0.3 ms for 15 KB. The Message-ID depends on the job alone, so a receiver may
        recognise a second attempt after a lost answer.
        """
        sender = self._sender(stream)
        message = self._messages[facts.message_id]
        leave = contact_token(self._keys, facts.contact_id, facts.program_id)
        texts = self._texts(message, facts, sender, unsubscribe_url(sender.base, leave))
        recipient = f"{facts.address.rpartition('@')[0]}@{facts.domain}"
        headers = [
            (b"Date", mime.date(now)),
            (b"From", sender.from_),
            (b"To", mime.mailbox("To", "", recipient)),
            (b"Subject", mime.unstructured("Subject", texts.subject)),
            (b"Message-ID", self._message_id(facts)),
        ]
        if sender.reply_to:
            headers.append((b"Reply-To", sender.reply_to))
        feedback = f"p.{program.name}:s.{stream.name}:{_CLASSES[facts.class_]}:{self._sender_id}"
        by_mail = f"mailto:unsubscribe-{leave}@{self._config.return_path_domain}"
        headers += [
            (b"List-Id", sender.list_id),
            (b"List-Unsubscribe", f"<{unsubscribe_url(sender.base, leave)}>,\r\n <{by_mail}>".encode()),
            (b"List-Unsubscribe-Post", b"List-Unsubscribe=One-Click"),
            (b"Feedback-ID", feedback.encode()),
            # Keeps vacation notices quiet; RFC 3834 is for mail that a machine sends about something.
            (b"Precedence", b"bulk") if facts.class_ == _BULK else (b"Auto-Submitted", b"auto-generated"),
            (b"MIME-Version", b"1.0"),
        ]
        content, body = _body(message, texts)
        return Composed(
            return_path=return_path(self._keys, facts.job_id, self._config.return_path_domain),
            recipient=recipient,
            from_domain=sender.domain,
            headers=headers + content,
            body=body,
        )

    def texts(self, facts: Facts, stream: Stream) -> Texts:
        """What the recipient would read, for showing it."""
        sender = self._sender(stream)
        leave = contact_token(self._keys, facts.contact_id, facts.program_id)
        return self._texts(self._messages[facts.message_id], facts, sender, unsubscribe_url(sender.base, leave))

    def _sender(self, stream: Stream) -> _Sender:
        key = (stream.id, stream.version)
        sender = self._senders.get(key)
        if sender is None:
            sender = self._senders[key] = _Sender(self._config, stream)
        return sender

    def _texts(self, message: _Message, facts: Facts, sender: _Sender, leave: str) -> Texts:
        mode = sender.mode if facts.tracking is None else max(sender.mode, _MODES.index(facts.tracking))
        values = context(facts.address, facts.attributes)
        values["unsubscribe_url"] = leave
        values["imprint"] = sender.imprint
        if facts.locale:
            values["locale"] = facts.locale
        if facts.zone:
            values["zone"] = facts.zone
        subject = rendered(message.subject, values, "subject")
        txt = None
        if message.txt is not None:
            txt = rendered(message.txt, values, "txt")
            txt = settled(txt) if message.made else txt
        if message.html is None:
            return Texts(subject, None, txt)
        values["imprint"] = sender.imprint_html
        values[CALL] = self._link_call(message, sender, mode, facts.job_id)
        values["mtad_pixel"] = self._pixel(message, sender, facts.job_id) if mode < 2 else ""
        return Texts(subject, rendered(message.html, values, "html"), txt)

    def _link_call(self, message: _Message, sender: _Sender, mode: int, job_id: int) -> Callable[..., str]:
        """What `mtad_link(position, values…)` of a template answers."""
        keys, links, base = self._keys, message.links, sender.base
        job = job_id if mode < 2 else 0

        def call(position: int, *values: Any) -> str:  # noqa: ANN401 - whatever the author's expression gives
            link, url = links[position]
            texts = [_value(value) for value in values]
            if mode == 3:
                return filled(url, texts)
            return click_url(base, link_token(keys, Purpose.CLICK, job, link, texts), texts)

        return call

    def _pixel(self, message: _Message, sender: _Sender, job_id: int) -> Markup:
        url = pixel_url(sender.base, link_token(self._keys, Purpose.OPEN, job_id, message.links[0][0]))
        return Markup(  # noqa: S704 - the base is the operator's, the token base64url
            f'<img src="{url}" width="1" height="1" alt="" style="display:block;width:1px;height:1px;border:0">'
        )

    def _message_id(self, facts: Facts) -> bytes:
        """From the job alone. Its microsecond tells it from a job of another installation with the same id."""
        micros = int((facts.created - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
        return f"<job.{facts.job_id}.{_base36(micros)}@{self._config.domain}>".encode()


def sender_id(domain: str) -> str:
    """The SenderId of Feedback-ID: 5 to 15 characters, the same in every mail of this installation."""
    plain = "".join(character if character.isalnum() else "-" for character in domain)
    return plain[-15:] if len(plain) >= 5 else f"{plain}-mtad"


def _body(message: _Message, texts: Texts) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers that describe the body, and the body."""
    parts = [
        (content_type, message.quoted.encoded(text))
        for content_type, text in ((b"text/plain; charset=utf-8", texts.txt), (b"text/html; charset=utf-8", texts.html))
        if text is not None
    ]
    if len(parts) == 1:
        return [(b"Content-Type", parts[0][0]), (b"Content-Transfer-Encoding", b"quoted-printable")], parts[0][1]
    multipart = b'multipart/alternative; boundary="' + message.boundary + b'"'
    return [(b"Content-Type", multipart)], mime.alternative(message.boundary, parts)


def _value(value: object) -> str:
    """What an expression inside a link stands for: in HTML it would have been decoded by the reader's program."""
    text = html.unescape(str(value)) if hasattr(value, "__html__") else str(value)
    return text.encode("utf-8", "replace").decode()


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _BASE36[digit] + digits
    return digits or "0"
