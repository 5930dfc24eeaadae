"""Mails as they leave, read back by the email package and by dkimpy."""

import re
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

import dkim
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtad.base.db import Pool
from mtad.compose.apply import apply_program
from mtad.compose.composer import Composer, ContentFault, sender_id
from mtad.dkim.keys import dns_record, new_key, parse_key
from mtad.dkim.sign import Identity, Signer
from tests.compose.conftest import HTML, Writer
from tests.compose.mails import (
    CONFIG,
    KEYS,
    NOW,
    PIXEL,
    SHOP,
    composer_of,
    facts,
    mail,
    parsed,
    part,
    program,
    stream_of,
)
from tracker import tokens
from tracker.tokens import Purpose


def test_a_mail_has_every_header_that_bulk_mail_needs() -> None:
    composed = composer_of().compose(facts(), program(), stream_of(), NOW)

    message = parsed(composed.message())
    leave = tokens.contact_token(KEYS, 11, 5)
    assert {name: str(message[name]) for name in message.keys() if name != "Content-Type"} == {  # noqa: SIM118 - no dict
        "Date": "Sun, 22 Nov 2026 16:53:01 +0000",
        "From": "Müller & Söhne <news@example.com>",
        "To": "Ann@example.net",
        "Subject": "Hi Änn",
        "Message-ID": "<job.99.hx8a8g6jk0@example.com>",
        "Reply-To": "answers@example.com",
        "List-Id": "<sales-de.example.com>",
        "List-Unsubscribe": f"<https://t.example.com/u/{leave}>, <mailto:unsubscribe-{leave}@bounce.example.com>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "Feedback-ID": "p.nudge:s.sales-de:bulk:example-com",
        "Precedence": "bulk",
        "MIME-Version": "1.0",
    } | {"Message-ID": str(message["Message-ID"])}
    assert re.fullmatch(r"<job\.99\.[0-9a-z]+@example\.com>", message["Message-ID"])
    assert composed.recipient == "Ann@example.net"
    assert composed.from_domain == "example.com"
    assert tokens.read_return_path(KEYS, composed.return_path.partition("@")[0]) == 99
    assert composed.return_path.endswith("@bounce.example.com")


def test_every_address_in_a_mail_stands_below_the_tracking_domain_of_its_stream() -> None:
    bulk = composer_of(html=HTML.replace("</body>", '<a href="{{ preferences_url }}">choose</a></body>'))
    asks = composer_of(html="<html><body>{{ confirm_url }}</body></html>")
    own = msgspec.structs.replace(stream_of(tracking_url="https://links.shop.example"), id=4)

    for stream, base in ((stream_of(), "https://t.example.com"), (own, "https://links.shop.example")):
        message = mail(bulk, facts(), stream)
        text = f"{part(message, 'html')} {part(message, 'plain')} {message['List-Unsubscribe']}"
        found = re.findall(r"(https://[^/\s]+)/([a-z])/[\w-]{36}\b", text)
        assert set(found) == {(base, kind) for kind in ("o", "c", "u", "p")}
        assert message["List-Unsubscribe"].startswith(f"<{base}/u/")
        assert f"{base}/confirm/" in part(mail(asks, facts(class_=0), stream), "plain")


def test_a_message_id_is_the_jobs_and_not_the_attempts() -> None:
    composer = composer_of()

    first, again = mail(composer, facts()), mail(composer, facts(attempt=3, doubts=1, epoch=9))
    other = mail(composer, facts(created=NOW))

    assert first["Message-ID"] == again["Message-ID"] != other["Message-ID"]


def test_a_mail_that_nobody_subscribed_to_says_that_a_machine_sent_it() -> None:
    message = mail(composer_of(), facts(class_=0))

    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Precedence"] is None


@pytest.mark.parametrize(
    ("contact", "stream", "mode"),
    [
        (None, "full", "full"),
        (None, "hygiene", "hygiene"),
        (None, "aggregate", "aggregate"),
        (None, "none", "none"),
        ("none", "full", "none"),
        ("hygiene", "full", "hygiene"),
        ("full", "none", "full"),
        ("aggregate", "none", "aggregate"),
    ],
)
def test_the_contacts_own_mode_or_else_the_streams_decides_what_links_tell(
    contact: str | None, stream: str, mode: str
) -> None:
    message = mail(composer_of(), facts(tracking=contact), stream_of(stream))

    html = part(message, "html")
    pixel = re.search(r'<img src="https://t\.example\.com/o/([^"]+)\.gif"', html)
    click = re.search(r"https://t\.example\.com/c/([^/\"']{36})(/[^\"']*)?", html)
    if mode == "none":
        assert pixel is None
        assert click is None
        assert 'href="https://shop.example/p/a%2Fb%20c?a=1&amp;b=2"' in html
        return
    assert pixel is not None
    assert click is not None
    opened = tokens.read_pixel_token(KEYS, pixel[1])
    assert opened == tokens.LinkToken(0 if mode == "aggregate" else 99, PIXEL, hygiene=mode == "hygiene")
    assert tokens.values_of(click[2]) == ("a/b c",)
    clicked = tokens.read_link_token(KEYS, Purpose.CLICK, click[1], ("a/b c",))
    assert clicked == tokens.LinkToken(99 if mode == "full" else 0, SHOP)


def test_the_pixel_stands_at_the_end_of_the_body() -> None:
    assert re.search(r"<img [^>]*>(?=</body>)", part(mail(composer_of(), facts()), "html"))


def test_plain_text_shows_the_authors_links_and_the_imprint() -> None:
    text = part(mail(composer_of(), facts()), "plain")

    assert "your shop <https://shop.example/p/a/b c?a=1&b=2>" in text
    assert "Müller & Söhne\nBerlin leave <https://t.example.com/u/" in text
    assert "t.example.com/c/" not in text


def test_a_message_without_html_is_one_part_and_has_no_pixel() -> None:
    message = mail(composer_of(html=None, txt="Hi {{ first_name }}\n{{ imprint }}"), facts())

    assert message.get_content_type() == "text/plain"
    assert str(message.get_content()).replace("\r\n", "\n") == "Hi Änn\nMüller & Söhne\nBerlin\n"


def test_a_line_break_in_a_subject_is_a_fault_and_not_a_header() -> None:
    with pytest.raises(ContentFault, match=r"^content:Subject: control character$"):
        mail(composer_of(), facts(attributes={"first_name": "x\r\nBcc: evil@example.net", "sku": "1"}))


def test_a_contact_without_a_needed_value_is_named_by_it() -> None:
    with pytest.raises(ContentFault, match=r"^missing_value:sku$"):
        mail(composer_of(), facts(attributes={"first_name": "x"}))


def test_a_local_part_beyond_ascii_is_a_fault() -> None:
    with pytest.raises(ContentFault, match=r"^content:To: address needs SMTPUTF8$"):
        mail(composer_of(), facts(address="änn@example.net"))


@cache
def signer() -> Signer:
    return Signer([Identity("example.com", "s1", parse_key(new_key()))])


def dns(name: bytes, timeout: int = 5) -> bytes:
    (identity,) = signer().identities_for("example.com")
    return dns_record(identity.key).encode()


values = st.text(alphabet=st.characters(), max_size=60)


@settings(deadline=None, max_examples=150)
@given(first=values, sku=values.filter(bool))
def test_whatever_a_contact_holds_the_wire_is_clean_and_says_it(first: str, sku: str) -> None:
    composer = composer_of(
        subject="Hi",
        html='<p>{{ first_name | default("") }}</p><a href="https://a.test/{{ sku }}">x</a>',
        txt="{{ first_name | default('') }}|\n.\n..\nFrom x\n",
    )

    composed = composer.compose(facts(attributes={"first_name": first, "sku": sku}), program(), stream_of(), NOW)
    wire = composed.message(
        signer().draft(composed.headers, composed.body, "example.com", 1_700_000_000, canonical=True).finished()
    )

    assert b"\0" not in wire
    assert all(b"\r" not in line and b"\n" not in line and len(line) <= 998 for line in wire.split(b"\r\n"))
    assert wire.endswith(b"\r\n")
    seen = first.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    assert part(parsed(wire), "plain") == seen + "|\n.\n..\nFrom x\n"
    assert dkim.verify(wire, dnsfunc=dns)


def test_tracked_html_differs_from_the_template_only_in_its_links() -> None:
    tracked, plain = (
        part(mail(composer_of(), facts()), "html"),
        part(mail(composer_of(), facts(tracking="none")), "html"),
    )

    def without(html: str) -> str:
        return re.sub(r"(?i)href=([\"']).*?\1", "", re.sub(r"<img .*?>", "", html, flags=re.DOTALL))

    assert without(tracked) == without(plain)


@pytest.mark.parametrize("domain", ["a.de", "example.com", "a-very-long-name.example.com"])
def test_a_sender_id_is_what_google_accepts(domain: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9-]{5,15}", sender_id(domain))


@pytest.fixture
def applied(pool: Pool, stream: Path, files: Writer) -> Callable[[], Awaitable[list[int]]]:
    async def apply() -> list[int]:
        await apply_program(pool, files(), "test")
        return [row[0] for row in await pool.fetch("select id from message order by id")]

    return apply


async def test_a_stored_message_is_composed_with_its_own_links(
    pool: Pool, applied: Callable[[], Awaitable[list[int]]]
) -> None:
    ids = await applied()
    composer = Composer(CONFIG, KEYS)
    await composer.need(pool, ids)

    html = part(mail(composer, facts(message_id=ids[1])), "html")

    click = re.findall(r"https://t\.example\.com/c/([^/\"']{36})", html)
    read = tokens.read_link_token(KEYS, Purpose.CLICK, click[1])
    assert read
    assert await pool.fetchval("select url from message_link where id = $1", read.link_id) == "https://example.com/two"
    assert await pool.fetchval("select message_id from message_link where id = $1", read.link_id) == ids[1]
