"""A mail as its reader sees it: pictures to load, links to click, a way to leave. Pure.

Everything is read from the message that arrived, with the standard library's parser,
so nothing here knows how our own mails are made.
"""

import email
import email.policy
import re
from email.message import EmailMessage
from html.parser import HTMLParser

import msgspec

_URI = re.compile(r"<\s*(https?://[^>\s]+)\s*>", re.IGNORECASE)


class Letter(msgspec.Struct, frozen=True):
    """What one mail offers. `links` are those of the HTML, without the one-click address."""

    id: str
    subject: str
    html: str
    text: str
    images: tuple[str, ...]
    links: tuple[str, ...]
    one_click: str | None  # only where RFC 8058 section 3.1 is kept: both header fields


def read_letter(message: bytes) -> Letter:
    """Parse a received message. Never raises: what cannot be read is empty."""
    mail = email.message_from_bytes(message, policy=email.policy.default)
    html = _part(mail, "html")
    found = _Addresses()
    found.feed(html)
    found.close()
    leave = _one_click(mail)
    return Letter(
        id=str(mail.get("Message-ID", "")).strip(),
        subject=str(mail.get("Subject", "")),
        html=html,
        text=_part(mail, "plain"),
        images=tuple(found.images),
        links=tuple(link for link in found.links if link != leave),
        one_click=leave,
    )


def _part(mail: EmailMessage, subtype: str) -> str:
    part = mail.get_body((subtype,))
    if part is None:
        return ""
    try:
        content = part.get_content()
    except (LookupError, UnicodeError):
        return ""
    return content if isinstance(content, str) else ""


def _one_click(mail: EmailMessage) -> str | None:
    if str(mail.get("List-Unsubscribe-Post", "")).strip() != "List-Unsubscribe=One-Click":
        return None
    match = _URI.search(str(mail.get("List-Unsubscribe", "")))
    return match[1] if match else None


class _Addresses(HTMLParser):
    """Collects what a mail program would load and what a person could click."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.images: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        for wanted, name, into in (("img", "src", self.images), ("a", "href", self.links)):
            url = attributes.get(name) or ""
            if tag == wanted and url.lower().startswith(("http://", "https://")) and url not in into:
                into.append(url)
