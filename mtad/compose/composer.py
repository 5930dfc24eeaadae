"""One mail for one contact: the templates of a message, filled, addressed, and turned into bytes.

A message is compiled once; per recipient there are only values, links and the pixel.
What links and pixel tell is decided by the contact's own mode, or the stream's for those
who were never asked, and stays so for this mail:

    full         links and pixel carry the job
    hygiene      the pixel carries the job and says that only its date may be kept; links carry none (0)
    aggregate    neither carries a job: hits are counted, and nobody's
    none         links are the destinations themselves, there is no pixel
"""

import binascii
import html
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from markupsafe import Markup, escape

from engine.facts import Facts
from engine.policy import mailbox as parse_mailbox
from engine.service import Program, Stream
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.ids import message_id
from mtad.compose import mime, store
from mtad.compose.faults import ContentFault
from mtad.compose.links import CALL, filled
from mtad.compose.message import Message, Quoted
from mtad.compose.sandbox import Ours
from mtad.compose.template import context, rendered
from mtad.compose.text import settled
from tracker.tokens import (
    Keys,
    Purpose,
    click_url,
    confirm_token,
    confirm_url,
    contact_token,
    link_token,
    pixel_url,
    preferences_token,
    preferences_url,
    return_path,
    unsubscribe_url,
)

__all__ = ["Composed", "Composer", "ContentFault", "Texts"]

_MODES = ("full", "hygiene", "aggregate", "none")
_FULL, _HYGIENE, _AGGREGATE, _NONE = range(4)
_CLASSES = ("transactional", "triggered", "bulk")
_BULK = 2

_PRECEDENCE = (b"Precedence", b"bulk")
_AUTO_SUBMITTED = (b"Auto-Submitted", b"auto-generated")


class Composed(msgspec.Struct, frozen=True):
    """A mail without its signature. Values of headers are folded; all line ends are CRLF.

    The body is in DKIM's canonical form but for empty lines at its end.
    """

    return_path: str
    recipient: str
    from_domain: str  # for the signature
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def bulk(self) -> bool:
        """Whether it owes its reader what bulk mail does."""
        return _PRECEDENCE in self.headers

    @property
    def return_domain(self) -> str:
        """The domain of the return path."""
        return self.return_path.rpartition("@")[2]

    def message(self, signature: bytes = b"") -> bytes:
        """The whole message as it goes on the wire, dots not stuffed; `signature` is a field with its CRLF."""
        head = b"\r\n".join(map(b": ".join, self.headers))
        return b"".join((signature, head, b"\r\n\r\n", self.body))


class Texts(msgspec.Struct, frozen=True):
    """What the recipient reads."""

    subject: str
    html: str | None
    txt: str | None


class _Links(Ours):
    """What `mtad_link(position, values…)` of a template answers in one mail."""

    __slots__ = ("_base", "_job", "_keys", "_links", "_mode")

    def __init__(self, keys: Keys, links: dict[int, tuple[int, str]], base: str, mode: int, job_id: int) -> None:
        self._keys = keys
        self._links = links
        self._base = base
        self._mode = mode
        self._job = job_id

    def __call__(self, position: int, *values: Any) -> str:  # noqa: ANN401 - whatever the author's expression gives
        link, url = self._links[position]
        texts = [_value(value) for value in values]
        if self._mode == _NONE:
            return filled(url, texts)
        return click_url(self._base, link_token(self._keys, Purpose.CLICK, self._job, link, texts), texts)


class _Sender:
    """What all mails of one version of a stream have in common."""

    def __init__(self, config: Config, stream: Stream) -> None:
        definition = stream.definition
        display, address = parse_mailbox("from", definition.from_)
        self.domain = address.domain
        self.headers = [(b"From", mime.mailbox("From", display, address.wire))]
        if definition.reply_to:
            shown, answer = parse_mailbox("reply_to", definition.reply_to)
            self.headers.append((b"Reply-To", mime.mailbox("Reply-To", shown, answer.wire)))
        self.headers += [
            (b"List-Id", f"<{definition.list_id}>".encode()),
            (b"List-Unsubscribe-Post", b"List-Unsubscribe=One-Click"),
            (b"MIME-Version", b"1.0"),
        ]
        self.mode = _MODES.index(definition.tracking)
        self.base = definition.tracking_url or config.tracker_url
        self.imprint = definition.imprint.strip()
        self.imprint_html = Markup("<br>\n").join(escape(line) for line in self.imprint.splitlines())


class Composer:
    """Composes mails of the messages that it was told to `need`."""

    def __init__(self, config: Config, keys: Keys) -> None:
        self._config = config
        self._keys = keys
        self._messages: dict[int, Message] = {}
        self._senders: dict[tuple[int, int], _Sender] = {}
        self._sender_id = sender_id(config.domain)
        self._date = (0, b"")  # the second that was last asked for

    async def need(self, pool: Pool, message_ids: Iterable[int]) -> None:
        """Have these messages compiled; what is held is not asked for again, for messages never change."""
        missing = sorted(set(message_ids) - self._messages.keys())
        if missing:
            async with pool.acquire() as conn:
                for stored in await store.messages(conn, missing):
                    self.hold(stored)

    def hold(self, stored: store.Stored) -> None:
        """Have this message compiled."""
        self._messages[stored.id] = Message(stored)

    def compose(self, facts: Facts, program: Program, stream: Stream, now: datetime) -> Composed:
        """One mail; `now` becomes its Date. ContentFault when it cannot be made for this contact.

        The Message-ID depends on the job alone, so a receiver may recognise a second attempt
        after a lost answer.
        """
        sender = self._sender(stream)
        message = self._messages[facts.message_id]
        leave = contact_token(self._keys, facts.contact_id, facts.program_id)
        leave_url = unsubscribe_url(sender.base, leave)
        quoted = self._quoted(message, facts, sender, leave_url)
        recipient = f"{facts.address.rpartition('@')[0]}@{facts.domain}"
        by_mail = f"mailto:unsubscribe-{leave}@{self._config.return_path_domain}"
        headers = [
            (b"Date", self._date_of(now)),
            (b"To", mime.mailbox("To", "", recipient)),
            (b"Subject", mime.unstructured("Subject", quoted.subject)),
            (b"Message-ID", message_id(facts.job_id, facts.created, self._config.domain).encode()),
            (b"List-Unsubscribe", f"<{leave_url}>,\r\n <{by_mail}>".encode("ascii")),
            *sender.headers,
            (b"Feedback-ID", self._feedback_id(facts, program, stream)),
            # Keeps vacation notices quiet; RFC 3834 is for mail that a machine sends about something.
            _PRECEDENCE if facts.class_ == _BULK else _AUTO_SUBMITTED,
            *message.headers,
        ]
        if message.confirms:
            headers = [header for header in headers if not header[0].startswith(b"List-")]
        return Composed(
            return_path=return_path(self._keys, facts.job_id, self._config.return_path_domain),
            recipient=recipient,
            from_domain=sender.domain,
            headers=headers,
            body=message.body(quoted),
        )

    def texts(self, facts: Facts, stream: Stream) -> Texts:
        """What the recipient would read, for showing it: the parts of a mail, decoded."""
        sender = self._sender(stream)
        leave = contact_token(self._keys, facts.contact_id, facts.program_id)
        message = self._messages[facts.message_id]
        quoted = self._quoted(message, facts, sender, unsubscribe_url(sender.base, leave))
        return Texts(quoted.subject, _decoded(quoted.html), _decoded(quoted.txt))

    def _sender(self, stream: Stream) -> _Sender:
        key = (stream.id, stream.version)
        sender = self._senders.get(key)
        if sender is None:
            sender = self._senders[key] = _Sender(self._config, stream)
        return sender

    def _quoted(self, message: Message, facts: Facts, sender: _Sender, leave: str) -> Quoted:
        mode = sender.mode if facts.tracking is None else _MODES.index(facts.tracking)
        mode = _NONE if message.confirms else mode
        values = context(facts.address, facts.attributes)
        values["unsubscribe_url"] = leave
        if message.confirms:
            values["confirm_url"] = confirm_url(sender.base, confirm_token(self._keys, facts.job_id))
        if message.prefers:
            token = preferences_token(self._keys, facts.contact_id, facts.program_id)
            values["preferences_url"] = preferences_url(sender.base, token)
        values["imprint"] = sender.imprint
        if facts.locale:
            values["locale"] = facts.locale
        if facts.zone:
            values["zone"] = facts.zone
        subject = rendered(message.subject, values, "subject")
        txt = None
        if message.txt is not None:
            txt = rendered(message.txt, values, "txt")
            txt = settled(txt) if message.settles else txt
        if message.html is None:
            return Quoted(subject, None, txt)
        values["imprint"] = sender.imprint_html
        job = facts.job_id if mode == _FULL else 0
        for name, link, url in message.fixed:
            values[name] = url if mode == _NONE else self._click(sender, job, link)
        values[CALL] = _Links(self._keys, message.links, sender.base, mode, job)
        values["mtad_pixel"] = "" if mode == _NONE else self._pixel(sender, mode, facts.job_id, message.links[0][0])
        return Quoted(subject, rendered(message.html, values, "html"), txt)

    def _click(self, sender: _Sender, job_id: int, link_id: int) -> str:
        return click_url(sender.base, link_token(self._keys, Purpose.CLICK, job_id, link_id))

    def _pixel(self, sender: _Sender, mode: int, job_id: int, link_id: int) -> str:
        purpose = Purpose.HYGIENE if mode == _HYGIENE else Purpose.OPEN
        return pixel_url(sender.base, link_token(self._keys, purpose, 0 if mode == _AGGREGATE else job_id, link_id))

    def _date_of(self, now: datetime) -> bytes:
        second = int(now.timestamp())
        if second != self._date[0]:
            self._date = (second, mime.date(now))
        return self._date[1]

    def _feedback_id(self, facts: Facts, program: Program, stream: Stream) -> bytes:
        return f"p.{program.name}:s.{stream.name}:{_CLASSES[facts.class_]}:{self._sender_id}".encode()


def sender_id(domain: str) -> str:
    """The SenderId of Feedback-ID: 5 to 15 characters, the same in every mail of this installation."""
    plain = "".join(character if character.isalnum() else "-" for character in domain)
    return plain[-15:] if len(plain) >= 5 else f"{plain}-mtad"


def _decoded(quoted: str | None) -> str | None:
    return None if quoted is None else binascii.a2b_qp(mime.ended(quoted)).decode().replace("\r\n", "\n")


def _value(value: object) -> str:
    """What an expression inside a link stands for: in HTML it would have been decoded by the reader's program."""
    text = html.unescape(str(value)) if hasattr(value, "__html__") else str(value)
    return text.encode("utf-8", "replace").decode()
